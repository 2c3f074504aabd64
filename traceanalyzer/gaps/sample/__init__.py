"""What the captured ranks can and cannot tell."""
