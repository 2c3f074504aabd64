"""Which rank makes the others wait, why, and what its repair is worth."""
