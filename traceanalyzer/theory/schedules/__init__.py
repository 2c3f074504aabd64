"""Schedules: orders, closed forms, and recognition by order."""
