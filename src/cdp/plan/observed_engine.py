"""What was observed, in DuckDB's file: read, and written in the transaction that moves on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import duckdb
import pyarrow as pa

from cdp.plan.check import REASONS
from cdp.plan.observed import (
    EventKey,
    Observed,
    ObservedEvent,
    ObservedProperty,
    Place,
)
from cdp.storage.registered_engine import registered

Duck = duckdb.DuckDBPyConnection
Row = dict[str, Any]


class DuckFile(Protocol):
    """``cdp.analytics.engine.Engine``: one file, many readers, one writer."""

    def cursor(self) -> AbstractContextManager[Duck]: ...
    def write(self) -> AbstractContextManager[Duck]: ...
    def as_of(self) -> datetime | None: ...


class Learned(NamedTuple):
    """How far the figures have come."""

    seq: int
    as_of: datetime | None


_EVENT_COLUMNS = (
    "source_id", "type", "event", "count", "read", "sampled", "first_seen", "last_seen",
    "findings", "is_truncated",
)  # fmt: skip
_PROPERTY_COLUMNS = (
    "source_id", "type", "event", "path", "count", "within", "types", "examples",
)  # fmt: skip
_EVENT_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("source_id", "type", "event")),
        *((name, pa.int64()) for name in ("count", "read", "sampled")),
        *((name, pa.timestamp("us", "UTC")) for name in ("first_seen", "last_seen")),
        ("findings", pa.string()),
        ("is_truncated", pa.bool_()),
    ]
)
_PROPERTY_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("source_id", "type", "event", "path")),
        *((name, pa.int64()) for name in ("count", "within")),
        *((name, pa.string()) for name in ("types", "examples")),
    ]
)
_DROP = """
DELETE FROM core.{table} AS t USING (SELECT DISTINCT source_id, type, event FROM incoming) i
 WHERE t.source_id = i.source_id AND t.type = i.type AND t.event = i.event
"""


def read_learned(duck: Duck) -> Learned:
    """Return up to which batch events have been counted."""
    row = rows_of(duck, "SELECT seq, as_of FROM core.plan_learned")[0]
    return Learned(row["seq"], row["as_of"])


def read_observed(
    duck: Duck, *, source_id: str | None = None, event: str | None = None
) -> Observed:
    """Return what was observed, of one source or of one event name, if asked so."""
    conditions, params = ["true"], {}
    for name, wanted in (("source_id", source_id), ("event", event)):
        if wanted is not None:
            conditions.append(f"{name} = ${name}")
            params[name] = wanted
    where = " AND ".join(conditions)
    columns = ", ".join(f'"{name}"' for name in _EVENT_COLUMNS)
    observed: Observed = {}
    for row in rows_of(duck, f"SELECT {columns} FROM core.plan_events WHERE {where}", params):
        observed[_key_of(row)] = ObservedEvent(
            row["count"],
            row["read"],
            row["sampled"],
            row["first_seen"],
            row["last_seen"],
            Counter(json.loads(row["findings"])),
            row["is_truncated"],
        )
    columns = ", ".join(f'"{name}"' for name in _PROPERTY_COLUMNS)
    sql = f"SELECT {columns} FROM core.plan_properties WHERE {where} ORDER BY path"
    for row in rows_of(duck, sql, params):
        observed[_key_of(row)].properties[row["path"]] = ObservedProperty(
            row["count"],
            row["within"],
            Counter(json.loads(row["types"])),
            [Place(*place) for place in json.loads(row["examples"])],
        )
    return observed


def write_observed(duck: Duck, changed: Mapping[EventKey, ObservedEvent], learned: Learned) -> None:
    """Write ``changed`` in the place of what was there, and how far it goes. In a transaction."""
    events = [_event_row(key, event) for key, event in changed.items()]
    properties = [
        _property_row(key, path, found)
        for key, event in changed.items()
        for path, found in event.properties.items()
    ]
    with registered(duck, "incoming", pa.Table.from_pylist(events, _EVENT_SCHEMA)):
        duck.execute(_DROP.format(table="plan_events"))
        duck.execute(_DROP.format(table="plan_properties"))
        duck.execute("INSERT INTO core.plan_events FROM incoming")
    with registered(duck, "incoming", pa.Table.from_pylist(properties, _PROPERTY_SCHEMA)):
        duck.execute("INSERT INTO core.plan_properties FROM incoming")
    duck.execute(
        "UPDATE core.plan_learned SET seq = $1, as_of = coalesce($2, as_of)",
        [learned.seq, learned.as_of],
    )


def read_events(duck: Duck, places: Iterable[Place]) -> dict[Place, Row]:
    """Return type and properties of the events at ``places``; those that are gone are not in it."""
    wanted = sorted(set(places))
    if not wanted:
        return {}
    table = pa.table(
        {
            "seq": pa.array([place.seq for place in wanted], pa.int64()),
            "ordinal": pa.array([place.ordinal for place in wanted], pa.int32()),
        }
    )
    with registered(duck, "incoming", table):
        # The range lets DuckDB skip what lies outside.
        rows = rows_of(
            duck,
            """SELECT e.seq, e.ordinal, e.type, e.properties::VARCHAR AS properties
                 FROM core.events e JOIN incoming i ON i.seq = e.seq AND i.ordinal = e.ordinal
                WHERE e.seq BETWEEN $low AND $high""",
            {"low": wanted[0].seq, "high": wanted[-1].seq},
        )
    return {
        Place(row["seq"], row["ordinal"]): {
            "type": row["type"],
            "properties": json.loads(row["properties"] or "{}"),
        }
        for row in rows
    }


def rows_of(duck: Duck, sql: str, params: Mapping[str, Any] | Sequence[Any] = ()) -> list[Row]:
    """Return the rows of a SELECT; times are aware, in UTC."""
    found = duck.sql(sql, params=params) if params else duck.sql(sql)
    rows: list[Row] = found.to_arrow_table().to_pylist()
    return rows


@contextmanager
def snapshot(file: DuckFile) -> Iterator[Duck]:
    """A connection whose statements all see the same moment."""
    with file.cursor() as duck:
        duck.execute("BEGIN TRANSACTION")
        try:
            yield duck
        finally:
            duck.execute("ROLLBACK")


def _key_of(row: Row) -> EventKey:
    return EventKey(row["source_id"], row["type"], row["event"])


def _event_row(key: EventKey, event: ObservedEvent) -> Row:
    return {
        **key._asdict(),
        "count": event.count,
        "read": event.read,
        "sampled": event.sampled,
        "first_seen": event.first_seen,
        "last_seen": event.last_seen,
        "findings": json.dumps({name: event.findings.get(name, 0) for name in REASONS}),
        "is_truncated": event.is_truncated,
    }


def _property_row(key: EventKey, path: str, found: ObservedProperty) -> Row:
    return {
        **key._asdict(),
        "path": path,
        "count": found.count,
        "within": found.within,
        "types": json.dumps(found.types),
        "examples": json.dumps(found.examples),
    }
