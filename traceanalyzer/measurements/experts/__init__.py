"""All-to-alls and expert load."""
