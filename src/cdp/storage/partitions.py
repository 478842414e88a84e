"""Partitions by time: made before they are needed, dropped whole when their time is over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from cdp.storage.database import Database, Driver

_CREATE = (
    "CREATE TABLE IF NOT EXISTS {child} PARTITION OF {parent} FOR VALUES FROM ('{a}') TO ('{b}')"
)
_DAILY = ("events", "log_records")


def ensure_partitions(database: Database, days: Iterable[date]) -> None:
    """Make the partitions that rows received on ``days`` (UTC) need. Idempotent.

    Runs in a transaction of its own, so that a batch never waits with DDL locks held.
    """
    wanted = sorted(set(days))
    with database.transaction() as connection:
        # Two processes that make the same partition would deadlock or collide on the name.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7263542)")
        for day in wanted:
            for parent in _DAILY:
                start = datetime(day.year, day.month, day.day, tzinfo=UTC)
                connection.exec_driver_sql(
                    _CREATE.format(
                        child=f"{parent}_{day:%Y%m%d}",
                        parent=parent,
                        a=start.isoformat(),
                        b=(start + timedelta(days=1)).isoformat(),
                    )
                )


def list_partitions(connection: Driver, parent: str) -> list[tuple[str, date]]:
    """Return the partitions of ``parent`` with the first day of each, oldest first."""
    rows = connection.execute(
        """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = to_regclass(%s)""",
        (parent,),
    ).fetchall()
    found: list[tuple[str, date]] = []
    for (name,) in rows:
        match = re.search(r"_(\d{8})$", name)
        if match:
            found.append((name, datetime.strptime(match[1], "%Y%m%d").date()))
    return sorted(found, key=lambda item: item[1])
