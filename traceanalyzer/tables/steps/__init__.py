"""Step windows and what a step consists of."""
