"""Commands that calculate ahead of a run: `plan job`, `plan experts`, `predict`."""
