"""Days that Postgres no longer holds, fed into DuckDB from the archive; and events past their time.

Both are lists that the feed reads with every step, in the step's own snapshot. A day is read as a
whole when this file cannot have had all of it from Postgres, or when something was taken out of it
since. What of it was applied is remembered in the file, in the same transactions as the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

from cdp.analytics.typed_engine import delete_events
from cdp.runtime.logs import get_logger
from cdp.storage.registered_engine import registered

Duck = duckdb.DuckDBPyConnection
ReadPart = Callable[[str], Iterable[pa.RecordBatch]]
"""Gives the rows of a file of the archive by its path."""

_log = get_logger(__name__)

DAYS = """
SELECT d.day::text AS day, d.seq, d.removals,
       coalesce((SELECT string_agg(path, ' ' ORDER BY path) FROM archive_parts p
                  WHERE p.day = d.day), '') AS paths
  FROM archive_days d WHERE d.dropped_at IS NOT NULL ORDER BY d.day
"""
"""In Postgres: the days whose rows are in the archive alone."""
CUTOFFS = """
SELECT s.source_id, r.event, r.before
  FROM retention_removals r JOIN sources s ON s.number = r.source_number
"""
"""In Postgres: up to when events were removed."""

_CREATE = """
CREATE TABLE IF NOT EXISTS core.archived_days (
    day VARCHAR, "begin" TIMESTAMPTZ, seq BIGINT, removals INTEGER
);
CREATE TABLE IF NOT EXISTS core.event_cutoffs (
    source_id VARCHAR, event VARCHAR, before TIMESTAMPTZ
);
"""
# As the feed has them, see ``changes_store``.
_COLUMNS = (
    "seq", "ordinal", "node_id", "source_number", "message_id", "type", "event", "at",
    "received_at", "properties", "context", "group_id",
)  # fmt: skip
_IN_DAY = """received_at >= $begin::TIMESTAMPTZ
             AND received_at < $begin::TIMESTAMPTZ + INTERVAL 1 DAY"""
_PASS_CUTOFFS = """
DELETE FROM core.events e USING incoming c
 WHERE e.source_id = c.source_id AND e."at" < c.before AND (c.event = '' OR c.event = e.event)
   AND NOT EXISTS (SELECT 1 FROM core.event_cutoffs k
                    WHERE k.source_id = c.source_id AND k.event = c.event AND k.before = c.before)
"""


def create_archive_tables(duck: Duck) -> None:
    """Make what the file remembers of the archive, if it does not yet."""
    duck.execute(_CREATE)


def list_wanted(duck: Duck, days: pa.Table, applied: int) -> list[dict[str, Any]]:
    """Return the days that must be read; mark those that the file has already.

    ``applied`` is the newest batch that is in the file.
    """
    known = {
        day: (seq, removals)
        for day, seq, removals in duck.execute(
            "SELECT day, seq, removals FROM core.archived_days"
        ).fetchall()
    }
    wanted = []
    for one in days.to_pylist():
        seq, removals = known.get(one["day"], (None, one["removals"]))
        if removals != one["removals"] or (applied < one["seq"] and seq != one["seq"]):
            wanted.append(one)
        elif seq != one["seq"]:
            _mark(duck, one)
    return wanted


def drop_day(duck: Duck, day: dict[str, Any]) -> None:
    """Remove what the file has of a day, and mark the day as read; part of one transaction."""
    delete_events(
        duck,
        f"DELETE FROM core.events WHERE {_IN_DAY} AND seq <= $seq",
        {"begin": f"{day['day']} 00:00:00+00", "seq": day["seq"]},
    )
    _mark(duck, day)


def read_day(day: dict[str, Any], read_part: ReadPart) -> Iterator[pa.Table]:
    """Give a day's rows as the feed has them. Raises ``FileNotFoundError``."""
    for path in day["paths"].split():
        for batch in read_part(path):
            table = pa.Table.from_batches([batch])
            names = ["at" if name == "timestamp" else name for name in table.column_names]
            yield table.rename_columns(names).select(list(_COLUMNS))


def pass_cutoffs(duck: Duck, cutoffs: pa.Table) -> None:
    """Remove events whose time is over, once for each moment up to which Postgres removed them."""
    with registered(duck, "incoming", cutoffs):
        delete_events(duck, _PASS_CUTOFFS)
        duck.execute("DELETE FROM core.event_cutoffs")
        duck.execute("INSERT INTO core.event_cutoffs FROM incoming")


def _mark(duck: Duck, day: dict[str, Any]) -> None:
    duck.execute("DELETE FROM core.archived_days WHERE day = ?", [day["day"]])
    duck.execute(
        "INSERT INTO core.archived_days VALUES (?, ?::TIMESTAMPTZ, ?, ?)",
        [day["day"], f"{day['day']} 00:00:00+00", day["seq"], day["removals"]],
    )
