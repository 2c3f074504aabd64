"""Commands that read traces into tables: `check`, `ingest`, `table`, `sql`."""
