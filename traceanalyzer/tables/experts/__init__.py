"""Routing of tokens and the direction of all-to-alls."""
