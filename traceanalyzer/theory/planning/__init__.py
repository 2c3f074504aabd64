"""From a model and a cluster to a configuration: what fits, what a step takes, what to choose and why."""
