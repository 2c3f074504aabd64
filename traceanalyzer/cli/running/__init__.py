"""Commands that launch reference jobs: `run`, and its sweep."""
