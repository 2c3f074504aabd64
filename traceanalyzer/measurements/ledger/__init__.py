"""Interval algebra and the accounting law: every nanosecond has one owner."""
