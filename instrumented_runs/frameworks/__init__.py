"""The recorder in loops that frameworks run, and headline numbers in experiment trackers."""
