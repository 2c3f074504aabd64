"""Pictures of one kind each: matrices, scatters on logarithmic axes, and ranks on their hosts."""
