"""The section on experts and all-to-alls."""
