"""What may be asked of an analysis or a prediction: plain values to typed ones, for the command line, Python and agents."""
