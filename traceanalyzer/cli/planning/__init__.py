"""Commands that plan: jobs, and placements of experts."""
