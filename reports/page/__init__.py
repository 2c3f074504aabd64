"""The page: parts, text, embedding and output."""
