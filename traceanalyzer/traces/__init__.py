"""Readers of profiler traces and of what runs write beside them; the on-disk capture."""
