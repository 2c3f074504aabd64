"""Schedules by family, one record each. A module that is added here is known everywhere."""
