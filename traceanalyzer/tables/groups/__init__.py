"""Process groups and the dimensions of the mesh."""
