"""The difference of two steps cut by owner, ranks, kernels and collectives."""
