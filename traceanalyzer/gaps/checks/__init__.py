"""What was checked, and where to look."""
