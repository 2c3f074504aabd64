"""What the captured ranks can and cannot show."""
