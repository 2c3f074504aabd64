"""Collectives and messages, matched across ranks."""
