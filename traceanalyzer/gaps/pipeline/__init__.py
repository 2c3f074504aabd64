"""The pipeline bubble against its schedule."""
