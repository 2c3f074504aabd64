"""What is on the tracks: recorded work, communication, accounts of time, and the schedule."""
