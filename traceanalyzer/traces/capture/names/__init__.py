"""Names in captures and results, and what stands in their place."""
