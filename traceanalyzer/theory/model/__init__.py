"""FLOPs, parameters, memory and times of a model."""
