"""The pipeline phase: chunks, idle time and the bubble."""
