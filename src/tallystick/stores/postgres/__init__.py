"""The PostgreSQL store: links, pool, compiled statements, error translation."""
