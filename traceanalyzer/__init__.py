"""Measures pipeline bubble, all-to-all imbalance and MFU from profiler traces, each against theory."""

__version__ = "0.1.0"
