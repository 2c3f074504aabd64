"""The timeline: what the ranks do in time, as packed columns that the page's script draws at any zoom."""
