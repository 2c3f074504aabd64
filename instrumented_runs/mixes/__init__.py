"""Jobs that mix dimensions of parallelism, with torch's own parts wherever torch has them."""
