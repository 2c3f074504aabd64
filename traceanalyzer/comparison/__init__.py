"""Two runs or more against each other: what changed, by how much, and who or what did it."""
