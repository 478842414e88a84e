"""What there is in the archive, in sums."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from cdp.storage.database import Driver


class Held(NamedTuple):
    """What the archive holds."""

    days: int
    dropped: int
    """Days whose rows are in the archive alone."""
    first: date | None
    last: date | None
    rows: int
    bytes: int
    files: int


def read_held(conn: Driver) -> Held:
    """Return the sums over all days."""
    row = conn.execute(
        """SELECT count(*), count(dropped_at), min(day), max(day), coalesce(sum(rows), 0)::bigint,
                  (SELECT coalesce(sum(bytes), 0)::bigint FROM archive_parts),
                  (SELECT count(*) FROM archive_parts)
             FROM archive_days"""
    ).fetchone()
    assert row is not None
    return Held(*row)
