"""Bytes to rows of events."""
