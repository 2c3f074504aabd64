"""The typed result: what `review.json` holds, and the words it is told in."""
