"""What Postgres keeps of a day whose events are dropped from it, because people are read by it."""

from __future__ import annotations

from psycopg import sql

from cdp.profiles.shared_device_facts_store import keep_uses
from cdp.profiles.touch_facts_store import keep_touches
from cdp.storage.database import Driver


def keep_facts(conn: Driver, table: sql.Identifier) -> None:
    """Keep what is needed of the events in ``table``; part of the caller's transaction."""
    keep_touches(conn, table)
    keep_uses(conn, table)
