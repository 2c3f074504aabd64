"""Measured against theory: the review."""
