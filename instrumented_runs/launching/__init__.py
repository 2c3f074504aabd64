"""How the ranks of a job are started, watched and ended."""
