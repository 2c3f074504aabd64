"""What exchanges cost: topologies as data, times of collectives on them, volumes by dimension of parallelism."""
