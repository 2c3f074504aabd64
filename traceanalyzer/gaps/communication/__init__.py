"""Communication against what should have happened."""
