"""Limits on a result that a build may not break."""
