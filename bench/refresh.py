"""What a refresh for a few touched people costs where the population is ten times as large.

Both populations have the same rules and the same traffic; only what nobody touches differs. And
what is saved by evaluating many segments in one refresh.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from bench.ratios import compare, take_turns
from cdp.analytics.schema import CORE
from cdp.segments.definitions import Definition
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.membership_store import Touched
from cdp.segments.parse import parse_rule
from cdp.segments.refresh_plan import Evaluation

PEOPLE, FULL_PEOPLE = 20_000, 200_000
EVENTS_A_PERSON = 3
TOUCHED = 250
SEGMENTS = 20
ROUNDS = 5
NOW = datetime(2026, 7, 1, tzinfo=UTC)

_WORLD = """
INSERT INTO core.events
SELECT i // 1000, i % 1000, (hash(i * 7) % {people})::BIGINT, 's', 'm' || i, 'track',
       CASE WHEN hash(i) % 10 < 3 THEN 'page' ELSE 'Order Completed' END,
       TIMESTAMPTZ '2026-01-01' + to_seconds(i * 15638400 // {events}),
       TIMESTAMPTZ '2026-01-01' + to_seconds(i * 15638400 // {events}),
       '{{"total":' || (hash(i * 3) % 50000) / 100.0 || ',"sku":"sku-' || hash(i * 5) % 1000
         || '"}}', '{{}}', NULL
  FROM range({events}) t(i);
INSERT INTO core.node_profiles SELECT i, '-infinity', 'infinity', i FROM range({people}) t(i);
INSERT INTO core.profiles SELECT i, 'prf_' || i, NULL, 1 FROM range({people}) t(i);
INSERT INTO core.node_traits (node_id, name, value, "at", message_id, source_number)
SELECT i, 'country', CASE WHEN hash(i) % 10 = 0 THEN '"FR"' ELSE '"CN"' END,
       TIMESTAMPTZ '2026-01-01', 'm', 1 FROM range({people}) t(i);
INSERT INTO core.memberships
SELECT 's' || s, i, 'prf_' || i, TIMESTAMPTZ '2026-01-01', 1
  FROM range({people}) t(i), range({segments}) u(s) WHERE hash(i + s * 1000003) % 10 = 0;
"""


def _list_rules() -> list[dict[str, Any]]:
    french = {"trait": "country", "op": "eq", "value": "FR"}
    kinds: list[Any] = [
        lambda n: {"event": "Order Completed", "within": {"last": f"{n + 5}d"}},
        lambda n: {"all": [{"event": "page", "count": {"op": "gte", "value": n}}, french]},
        lambda n: {
            "event": "Order Completed",
            "where": [{"property": "total", "op": "gte", "value": 300 + n}],
        },
        lambda n: {"all": [{"not": {"event": "page", "within": {"last": f"{n + 1}d"}}}, french]},
    ]
    return [kinds[number % len(kinds)](number) for number in range(SEGMENTS)]


def _fill(path: Path, people: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), config={"threads": 2, "memory_limit": "512MB"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(CORE)
    connection.execute(
        _WORLD.format(people=people, events=people * EVENTS_A_PERSON, segments=SEGMENTS)
    )
    connection.execute("CHECKPOINT")
    return connection


def _refresh(
    connection: duckdb.DuckDBPyConnection,
    touched: list[int],
    numbers: Iterable[int] = range(SEGMENTS),
    *,
    whole: bool = False,
) -> float:
    """Return the processor's seconds for one refresh of some segments, which leaves no trace."""
    rules = _list_rules()
    connection.execute("BEGIN TRANSACTION")
    started = time.process_time()
    evaluator = Evaluator(connection, now=NOW, timezone="UTC", read_rule=parse_rule)
    evaluator.touch(Touched(touched, [], True), NOW - timedelta(seconds=1))
    for number in numbers:
        definition = Definition("segment", f"s{number}", rules[number], 1, 1)
        evaluator.open_scope(())
        evaluator.evaluate_segment(Evaluation(definition, whole, "event", frozenset()))
    evaluator.number_changes(0)
    seconds = time.process_time() - started
    connection.execute("ROLLBACK")
    return seconds


def _compare_together(
    connection: duckdb.DuckDBPyConnection, touch: Callable[[], list[int]], *, whole: bool
) -> dict[str, Any]:
    def together() -> float:
        return _refresh(connection, touch(), whole=whole)

    def alone() -> float:
        return sum(_refresh(connection, touch(), [each], whole=whole) for each in range(SEGMENTS))

    pairs = take_turns(ROUNDS, together, alone)
    whom = "everybody" if whole else f"{TOUCHED} touched"
    return compare(
        18,
        f"refresh of {SEGMENTS} segments for {whom} together, to the sum of each alone",
        [at_once / one_by_one for at_once, one_by_one in pairs],
        at_most=0.80,
        seconds=[at_once for at_once, _ in pairs],
        seconds_alone=[one_by_one for _, one_by_one in pairs],
    )


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure what ten times the people cost, and what many segments share (goal 18)."""
    people = PEOPLE if quick else FULL_PEOPLE
    dice = random.Random(7)
    with tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder:
        small = _fill(Path(folder) / "small.duckdb", people)
        large = _fill(Path(folder) / "large.duckdb", people * 10)

        def touch() -> list[int]:
            return sorted(dice.sample(range(people), TOUCHED))

        def of_many() -> float:
            return _refresh(large, sorted(dice.sample(range(people * 10), TOUCHED)))

        def of_few() -> float:
            return _refresh(small, touch())

        of_many()
        of_few()
        pairs = take_turns(ROUNDS, of_many, of_few)
        shared = [_compare_together(small, touch, whole=whole) for whole in (False, True)]
        small.close()
        large.close()
    return [
        compare(
            "-",
            f"refresh of {SEGMENTS} segments for {TOUCHED} touched, ten times the people",
            [many / few for many, few in pairs],
            at_most=1.5,
            seconds=[many for many, _ in pairs],
            seconds_of_few=[few for _, few in pairs],
        ),
        *shared,
    ]
