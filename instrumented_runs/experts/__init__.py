"""Expert layers: routing, exchange and computation."""
