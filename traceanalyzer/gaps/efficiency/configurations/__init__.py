"""What other configurations of the run would save."""
