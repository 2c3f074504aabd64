"""Pipeline actions: labelled, inferred, or from op tables."""
