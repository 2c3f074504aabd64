"""What should happen: op orders, simulation, closed forms, FLOPs, chance. Never sees a measurement."""
