"""What a training rank holds in memory: states by ZeRO stage, activations by recompute and schedule, working space."""
