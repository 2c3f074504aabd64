"""Where the calls of ranks come apart, from flight-recorder dumps."""
