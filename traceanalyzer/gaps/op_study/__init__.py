"""The published what-if study of op tables."""
