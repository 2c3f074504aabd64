"""The new run replayed with one piece after the other at the old run's times."""
