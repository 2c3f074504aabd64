"""Paths, archives and compressed files to bytes."""
