"""Events that come in two parts, with tables of their own made in between, as the feed has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from cdp.analytics.apply import PropertiesSeen, add_events
from cdp.analytics.typed_engine import TypedTables, Wanted
from cdp.segments.typed_events_engine import find_typed
from cdp.typed_columns import TypedEvents

_ROWS = """
SELECT 1 + (row_number() OVER () - 1) // $first AS seq, row_number() OVER ()::INTEGER AS ordinal,
       node_id, if(source_id = 't', 2, 1)::INTEGER AS source_number, message_id, type, event, "at",
       received_at, properties::VARCHAR AS properties, context::VARCHAR AS context, group_id
  FROM core.events
"""


class _Writer:
    """An engine of one connection."""

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._duck = duck

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._duck.execute("BEGIN TRANSACTION")
        yield self._duck
        self._duck.execute("COMMIT")


def type_events(duck: duckdb.DuckDBPyConnection, wanted: Wanted, first: int) -> TypedEvents:
    """Let the loaded events come again, ``first`` of them before their tables are made.

    Return the tables.
    """
    duck.execute("DELETE FROM core.sources")
    duck.execute(
        "INSERT INTO core.sources (source_number, source_id, name, type)"
        " VALUES (1, 's', 's', 'app'), (2, 't', 't', 'app')"
    )
    rows = duck.sql(_ROWS, params={"first": max(1, first)}).to_arrow_table()
    for (number,) in duck.execute("SELECT number FROM core.typed_tables").fetchall():
        duck.execute(f"DROP TABLE core.typed_{number}")
    for table in ("events", "event_properties", "typed_tables", "typed_properties"):
        duck.execute(f"DELETE FROM core.{table}")
    seen, tables = PropertiesSeen(), TypedTables(_Writer(duck))
    for part in (rows.slice(0, first), rows.slice(first)):
        if part.num_rows:
            seen.kinds, _ = add_events(duck, part, seen)
            duck.execute("UPDATE core.applied SET seq = (SELECT max(seq) FROM core.events)")
        while tables.keep(wanted):
            pass
    return find_typed(duck)
