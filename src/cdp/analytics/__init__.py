"""DuckDB: fed from Postgres in commit order, owned by one process, asked in SQL."""
