"""Kernels and operators, and what each does."""
