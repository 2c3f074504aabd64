"""What a recorder finds when it starts: launcher, process groups, and what else is in its folder."""
