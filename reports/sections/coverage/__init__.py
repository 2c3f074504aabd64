"""Sections on what was captured, what is missing, and how far the data carries."""
