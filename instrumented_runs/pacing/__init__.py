"""Paced computation, planted faults, and the measured peak."""
