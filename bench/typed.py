"""Filters on a property against the same filters on a typed column, written by hand.

The hand-written statements read a table that holds the event's rows with the property as a plain
column; what is timed on our side is the whole way from the rule document to the result.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from bench.ratios import compare, take_turns
from bench.rules import EVENTS, FULL_EVENTS, FULL_PEOPLE, NOW, PEOPLE, build_world
from cdp.analytics.typed_engine import TypedTables
from cdp.segments.compile import compile_rule
from cdp.segments.parse import parse_rule
from cdp.segments.typed_events_engine import find_typed
from cdp.typed_columns import TypedEvents

ROUNDS = 15
ALLOWED_SECONDS = 0.005
_NAME = "Order Completed"
_KINDS = {"total": 6, "currency": 1, "sku": 1, "title": 1, "url": 1}
_ROWS = """orders e JOIN core.node_profiles np
  ON np.node_id = e.node_id AND e."at" >= np.since AND e."at" < np.until
 WHERE e."at" <= TIMESTAMPTZ '2026-07-01 00:00:00+00'"""
_FILTERS = (
    ("a number from 300", {"property": "total", "op": "gte", "value": 300}, "total >= 300"),
    ("a number in between", {"property": "total", "op": "between", "value": [100, 120]},
     "total BETWEEN 100 AND 120"),
    ("one text of a thousand", {"property": "sku", "op": "eq", "value": "sku-7"},
     "sku = 'sku-7'"),
    ("some texts", {"property": "sku", "op": "in", "value": ["sku-7", "sku-8", "sku-9"]},
     "sku IN ('sku-7', 'sku-8', 'sku-9')"),
)  # fmt: skip


class _Writer:
    """An engine of one connection."""

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._duck = duck

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._duck.execute("BEGIN TRANSACTION")
        yield self._duck
        self._duck.execute("COMMIT")


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goal 20, and a sum, which both sides read from columns."""
    people, events = (PEOPLE, EVENTS) if quick else (FULL_PEOPLE, FULL_EVENTS)
    with duckdb.connect(":memory:", config={"threads": 2}) as duck:
        build_world(duck, people, events)
        typed = _make_table(duck)
        rows = [
            _row(
                duck,
                typed,
                f"filter: {name}",
                {"event": _NAME, "where": [condition]},
                f"SELECT DISTINCT np.profile_no FROM {_ROWS} AND {by_hand}",
            )
            for name, condition, by_hand in _FILTERS
        ]
        aggregate = {"fn": "sum", "property": "total"}
        rule = {"event": _NAME, "aggregate": aggregate, "op": "gte", "value": 500}
        by_hand = f"SELECT np.profile_no FROM {_ROWS} GROUP BY 1 HAVING sum(total) >= 500"
        name = "count: sum of a column, to a sum of doubles"
        return [*rows, _row(duck, typed, name, rule, by_hand, goal=15, at_most=1.15)]


def _make_table(duck: duckdb.DuckDBPyConnection) -> TypedEvents:
    for name, kinds in _KINDS.items():
        duck.execute("INSERT INTO core.event_properties VALUES (?, ?, ?)", [_NAME, name, kinds])
    duck.execute("UPDATE core.applied SET seq = (SELECT max(seq) FROM core.events)")
    tables = TypedTables(_Writer(duck))
    while tables.keep({_NAME: ["total", "sku"]}):
        pass
    duck.execute(
        f"""CREATE TABLE orders AS
            SELECT node_id, "at", TRY_CAST(properties ->> '$.total' AS DOUBLE) AS total,
                   properties ->> '$.sku' AS sku
              FROM core.events WHERE event = '{_NAME}'"""
    )
    return find_typed(duck)


def _row(
    duck: duckdb.DuckDBPyConnection,
    typed: TypedEvents,
    name: str,
    rule: dict[str, Any],
    by_hand: str,
    *,
    goal: int = 20,
    at_most: float = 1.2,
) -> dict[str, Any]:
    def ask(sql: str, params: dict[str, object]) -> int:
        row = duck.execute(f"SELECT count(*) FROM ({sql})", params).fetchone()
        return int(row[0]) if row else 0

    def ours() -> int:
        compiled = compile_rule(parse_rule(rule), NOW, "UTC", typed=typed)
        return ask(compiled.sql, compiled.params)

    def timed(is_ours: bool) -> float:
        started = time.perf_counter()
        if is_ours:
            ours()
        else:
            ask(by_hand, {})
        return time.perf_counter() - started

    found, expected = ours(), ask(by_hand, {})
    if found != expected:
        raise AssertionError(f"{name}: the rule finds {found}, the SQL {expected}")
    pairs = take_turns(ROUNDS, lambda: timed(True), lambda: timed(False))
    return compare(
        goal,
        name,
        [max(mine - ALLOWED_SECONDS, 0.0) / theirs for mine, theirs in pairs],
        at_most=at_most,
        seconds=[mine for mine, _ in pairs],
        seconds_by_hand=[theirs for _, theirs in pairs],
        profiles=found,
    )
