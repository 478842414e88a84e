"""Alembic's entry: runs on the connection that ``cdp.storage.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from cdp.storage.tables import metadata

connection = context.config.attributes["connection"]
# A migration that waits for a lock blocks everybody behind it: give up and be run again.
connection.exec_driver_sql("SET lock_timeout = '10s'")
context.configure(connection=connection, target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
