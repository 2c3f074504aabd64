"""Whether a capture shows what the job does when nobody looks."""
