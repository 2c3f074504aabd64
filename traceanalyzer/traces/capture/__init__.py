"""Captures: traces as Parquet, written once, whole or not at all."""
