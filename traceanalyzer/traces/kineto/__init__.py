"""Kineto traces: files, ranks, checks."""
