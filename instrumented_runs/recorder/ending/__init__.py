"""What a rank says of itself while it runs, and how it ends."""
