"""Tables of single events with typed columns, beside ``core.events``: what rules ask for by value.

To read a property out of JSON costs many times what a column does. Events that a rule or a tag
asks something of get a table of their own (``core.typed_<number>``): their keys and times, and
their properties in columns (see ``cdp.typed_columns``). It is filled some batches at a time beside
the feed, and kept by the feed in its own transactions from then on, so that it holds at any moment
just what ``core.events`` does.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

import duckdb

from cdp.analytics.quote import point_to
from cdp.runtime.logs import get_logger
from cdp.typed_columns import READY, TypedProperty, name_table, write_columns

Duck = duckdb.DuckDBPyConnection
Kinds = Mapping[str, Mapping[str, int]]
"""Event name → property → kinds seen of it."""
Wanted = Mapping[str, Collection[str]]
"""Event name → the properties that somebody asks for."""

_log = get_logger(__name__)

MOST_TABLES = 100
MOST_PROPERTIES = 60
_SECONDS = 0.5
_FIRST_BATCHES = 200
_REST_SECONDS = 60.0

_KEYS = """seq BIGINT, ordinal INTEGER, node_id BIGINT, source_id VARCHAR, message_id VARCHAR,
    event VARCHAR, "at" TIMESTAMPTZ, received_at TIMESTAMPTZ"""
_KEY_NAMES = 'seq, ordinal, node_id, source_id, message_id, event, "at", received_at'
_INCOMING = """
(SELECT i.seq, i.ordinal, i.node_id, s.source_id, i.message_id, i.event, i."at", i.received_at,
        i.properties
   FROM incoming i LEFT JOIN core.sources s ON s.source_number = i.source_number)
"""
_SETTLED = "(SELECT * FROM core.events SEMI JOIN incoming USING (seq, ordinal))"


class Engine(Protocol):
    """What is needed of the analytics engine: the single writer's transaction."""

    def write(self) -> Any: ...


class Table(NamedTuple):
    """A typed table as the file has it."""

    number: int
    event: str
    filled_to: int
    is_retired: bool
    properties: dict[str, TypedProperty]

    @property
    def name(self) -> str:
        """What the table is called."""
        return name_table(self.number)


def list_tables(duck: Duck) -> list[Table]:
    """Return every typed table, retired ones included, the newest last."""
    rows = duck.execute("FROM core.typed_tables ORDER BY number").fetchall()
    if not rows:
        return []
    tables = {
        number: Table(number, event, filled_to, is_retired, {})
        for number, event, filled_to, is_retired in rows
    }
    for number, name, position, kinds in duck.execute("FROM core.typed_properties").fetchall():
        tables[number].properties[name] = TypedProperty(position, kinds)
    return list(tables.values())


def list_with_events(duck: Duck) -> list[str]:
    """Return all tables in which an event has a row: what is deleted is deleted in each."""
    numbers = duck.execute("SELECT number FROM core.typed_tables ORDER BY number").fetchall()
    return ["core.events", *(name_table(number) for (number,) in numbers)]


def delete_events(duck: Duck, statement: str, params: Mapping[str, Any] | None = None) -> None:
    """Run a DELETE over ``core.events``, and the same over every typed table."""
    for table in list_with_events(duck):
        duck.execute(statement.replace("core.events", table), params)


def add_incoming(duck: Duck, kinds: Kinds, arrived: Collection[str], *, is_settled: bool) -> None:
    """Add the events of the relation ``incoming``, whose names are ``arrived``.

    ``kinds`` is everything seen, theirs included; with ``is_settled`` they are read as
    ``core.events`` has them. Inside the feed's transaction.
    """
    for table in list_tables(duck):
        if table.is_retired or table.event not in arrived:
            continue
        _grow(duck, table, kinds.get(table.event, {}))
        _insert(duck, table, _SETTLED if is_settled else _INCOMING, -1, table.filled_to)


def _grow(duck: Duck, table: Table, seen: Mapping[str, int]) -> None:
    """Add columns for what is new: no row before has had any of it."""
    for name, kinds in seen.items():
        known = table.properties.get(name)
        if known is None:
            if kinds and len(table.properties) < MOST_PROPERTIES:
                _add_property(duck, table, name, TypedProperty(len(table.properties), kinds))
        elif kinds | known.kinds != known.kinds:
            _add_property(duck, table, name, TypedProperty(known.position, kinds | known.kinds))


def _add_property(duck: Duck, table: Table, name: str, typed: TypedProperty) -> None:
    known = table.properties.get(name)
    has = known.columns() if known is not None else {}
    for column, kind in typed.columns().items():
        if column not in has:
            duck.execute(f"ALTER TABLE {table.name} ADD COLUMN {column} {kind}")
    if known is not None:
        duck.execute(
            "DELETE FROM core.typed_properties WHERE number = ? AND property = ?",
            [table.number, name],
        )
    duck.execute(
        "INSERT INTO core.typed_properties VALUES (?, ?, ?, ?)",
        [table.number, name, typed.position, typed.kinds],
    )
    table.properties[name] = typed


def _insert(duck: Duck, table: Table, source: str, above: int, up_to: int) -> None:
    """Add the events of ``source`` whose batch is in (``above``, ``up_to``]."""
    names, values, pointers = [], [], []
    for index, (name, typed) in enumerate(table.properties.items(), 1):
        pointers.append(point_to(name))
        for column, sql in write_columns(f"v[{index}]", typed).items():
            names.append(column)
            values.append(sql)
    columns = ", ".join([_KEY_NAMES, *names])
    # Every property of an event in one reading of its document.
    read = f"json_extract(properties, [{', '.join(pointers)}])" if pointers else "NULL"
    duck.execute(
        f"""INSERT INTO {table.name} ({columns})
            SELECT {", ".join([_KEY_NAMES, *values])}
              FROM (SELECT *, {read} AS v FROM {source}
                     WHERE event = $event AND seq > $above AND seq <= $up_to)""",
        {"event": table.event, "above": above, "up_to": up_to},
    )


class TypedTables:
    """Makes and fills the typed tables that are wanted. For one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batches = _FIRST_BATCHES
        self._retired_at: dict[int, float] = {}

    def keep(self, wanted: Wanted) -> bool:
        """Bring the tables nearer to what is ``wanted``; return whether there is more to do.

        Takes half a second or so at a time: who writes is kept waiting meanwhile.
        """
        until = time.monotonic() + _SECONDS
        while self._take_step(wanted):
            if time.monotonic() >= until:
                return True
        return False

    def _take_step(self, wanted: Wanted) -> bool:
        with self._engine.write() as duck:
            tables = list_tables(duck)
            filling = [table for table in tables if table.filled_to < READY]
            if filling:
                self._fill(duck, filling[0])
                return True
            for table in tables:
                if table.is_retired and self._has_rested(table.number):
                    _drop(duck, table)
            asked = _find_missing(duck, wanted, [each for each in tables if not each.is_retired])
            if asked is None:
                return False
            _create(duck, asked, wanted[asked])
            return True

    def _has_rested(self, number: int) -> bool:
        """Whether no statement that was made for a retired table can still be on its way."""
        now = time.monotonic()
        return now - self._retired_at.setdefault(number, now) > _REST_SECONDS

    def _fill(self, duck: Duck, table: Table) -> None:
        began = time.monotonic()
        newest = duck.execute("SELECT seq FROM core.applied").fetchall()[0][0]
        up_to = min(newest, table.filled_to + self._batches)
        _insert(duck, table, "core.events", table.filled_to, up_to)
        is_ready = up_to == newest
        duck.execute(
            "UPDATE core.typed_tables SET filled_to = $to WHERE number = $number",
            {"to": READY if is_ready else up_to, "number": table.number},
        )
        if is_ready:
            duck.execute(
                "UPDATE core.typed_tables SET is_retired = true"
                " WHERE event = $event AND number <> $number",
                {"event": table.event, "number": table.number},
            )
            _log.info("typed_table_ready", table=table.number, columns=len(table.properties))
        # Neither a transaction that is felt nor one that costs more to begin than it does.
        seconds = time.monotonic() - began
        if seconds < _SECONDS / 4:
            self._batches *= 2
        elif seconds > _SECONDS:
            self._batches = max(1, self._batches // 2)


def _find_missing(duck: Duck, wanted: Wanted, tables: list[Table]) -> str | None:
    """Return an event that was seen and has no table yet, or one that lacks what is asked for."""
    by_event = {table.event: table for table in tables}
    seen: dict[str, set[str]] = {}
    for event, name, kinds in duck.execute("FROM core.event_properties").fetchall():
        if event in wanted:
            properties = seen.setdefault(event, set())
            if kinds:
                properties.add(name)
    for event in sorted(seen):
        table = by_event.get(event)
        if table is None:
            if len(by_event) < MOST_TABLES:
                return event
        elif (set(wanted[event]) & seen[event]) - set(table.properties):
            return event
    return None


def _create(duck: Duck, event: str, asked: Collection[str]) -> None:
    """Make an empty table for ``event`` whose columns are for all that was seen, as far as the

    limit allows; those ``asked`` for come first, and always.
    """
    numbers: Any = duck.execute("SELECT coalesce(max(number), 0) FROM core.typed_tables").fetchone()
    number = numbers[0] + 1
    seen = duck.execute(
        """SELECT property, kinds FROM core.event_properties
            WHERE event = $event AND property <> '' AND kinds > 0
            ORDER BY list_contains($asked::VARCHAR[], property) DESC, property""",
        {"event": event, "asked": list(asked)},
    ).fetchall()
    chosen = {
        name: TypedProperty(position, kinds)
        for position, (name, kinds) in enumerate(seen)
        if position < MOST_PROPERTIES or name in asked
    }
    columns = [
        f"{column} {kind}" for each in chosen.values() for column, kind in each.columns().items()
    ]
    duck.execute(f"CREATE TABLE {name_table(number)} ({', '.join([_KEYS, *columns])})")
    duck.execute("INSERT INTO core.typed_tables VALUES (?, ?, -1, false)", [number, event])
    for name, typed in chosen.items():
        duck.execute(
            "INSERT INTO core.typed_properties VALUES (?, ?, ?, ?)",
            [number, name, typed.position, typed.kinds],
        )


def _drop(duck: Duck, table: Table) -> None:
    duck.execute(f"DROP TABLE {table.name}")
    duck.execute("DELETE FROM core.typed_properties WHERE number = ?", [table.number])
    duck.execute("DELETE FROM core.typed_tables WHERE number = ?", [table.number])
