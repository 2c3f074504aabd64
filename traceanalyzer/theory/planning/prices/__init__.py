"""What a step takes and a rank holds, for arrays of configurations at once."""
