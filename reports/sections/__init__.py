"""The sections of a review: one module per subject, each a function of the material to at most one section."""
