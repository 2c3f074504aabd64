"""Captures of many ranks: read on a cluster, made in the job, listed by one manifest."""
