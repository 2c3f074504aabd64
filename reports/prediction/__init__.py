"""The page of a prediction."""
