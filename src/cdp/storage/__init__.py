"""Postgres: the schema, transactions, and the rows that every stage shares."""
