"""Which links are slow, and what they cost."""
