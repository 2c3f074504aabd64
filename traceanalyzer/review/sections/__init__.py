"""The sections of the result, one struct per subject."""
