"""Sections on the pipeline."""
