"""Expert parallelism against balance, chance and volume by formula."""
