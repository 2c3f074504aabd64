"""Questions to the tables of a run: rows by an expression, SQL over all tables, and the answer in any format."""
