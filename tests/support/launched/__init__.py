"""Jobs that tests launch, and what they ran."""
