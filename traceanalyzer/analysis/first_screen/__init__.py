"""What a reader sees first: the story, the tiles, and what is withheld."""
