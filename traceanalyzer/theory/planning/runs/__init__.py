"""Runs as a plan describes them: published ones, and one that calibrates it."""
