"""Rules against SQL written by hand for the same question, on the same data and connection.

What is timed on our side is the whole way: rule document → tree → SQL → result. The hand-written
statements know what a rule cannot assume, such as that totals are always numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from bench.ratios import compare, take_turns
from cdp.analytics.schema import CORE
from cdp.segments.compile import compile_rule
from cdp.segments.parse import parse_rule

EVENTS, PEOPLE = 2_000_000, 200_000
FULL_EVENTS, FULL_PEOPLE = 20_000_000, 1_000_000
ROUNDS = 9
NOW = datetime(2026, 7, 1, tzinfo=UTC)
# The goal allows this much on top of the ratio: short questions would else measure the parser.
ALLOWED_SECONDS = 0.005

_OWNED = """core.events e JOIN core.node_profiles np
  ON np.node_id = e.node_id AND e."at" >= np.since AND e."at" < np.until"""
_THREE_ORDERS = f"""SELECT np.profile_no FROM {_OWNED}
 WHERE e.event = 'Order Completed' AND e."at" > TIMESTAMPTZ '2026-06-01 00:00:00+00'
   AND e."at" <= TIMESTAMPTZ '2026-07-01 00:00:00+00'"""
_FRENCH = """SELECT np.profile_no FROM core.node_traits t JOIN core.node_profiles np
  ON np.node_id = t.node_id AND t."at" >= np.since AND t."at" < np.until
 WHERE t.name = 'country' GROUP BY np.profile_no
HAVING arg_max(t.value, (t."at", t.message_id, t.source_number))->>'$' = 'FR'"""


@dataclass(frozen=True)
class Question:
    name: str
    rule: dict[str, Any]
    by_hand: str


LAST_MONTH = {"last": "30d"}
FRENCH = {"trait": "country", "op": "eq", "value": "FR"}
QUESTIONS = (
    Question(
        "ordered 3 times in 30 days and lives in FR",
        {
            "all": [
                {
                    "event": "Order Completed",
                    "within": LAST_MONTH,
                    "count": {"op": "gte", "value": 3},
                },
                FRENCH,
            ]
        },
        f"""WITH orders AS ({_THREE_ORDERS} GROUP BY np.profile_no HAVING count(*) >= 3),
                 french AS ({_FRENCH})
            SELECT profile_no FROM orders SEMI JOIN french USING (profile_no)""",
    ),
    Question(
        "did not order in 30 days and lives in FR",
        {"all": [{"not": {"event": "Order Completed", "within": LAST_MONTH}}, FRENCH]},
        f"""WITH orders AS ({_THREE_ORDERS} GROUP BY np.profile_no), french AS ({_FRENCH})
            SELECT profile_no FROM french ANTI JOIN orders USING (profile_no)""",
    ),
    Question(
        "saw 3 pages, ever",
        {"event": "page", "count": {"op": "gte", "value": 3}},
        f"""SELECT np.profile_no FROM {_OWNED}
             WHERE e.event = 'page' GROUP BY np.profile_no HAVING count(*) >= 3""",
    ),
    Question(
        "ordered for 300 or more at once",
        {
            "event": "Order Completed",
            "where": [{"property": "total", "op": "gte", "value": 300}],
        },
        f"""SELECT DISTINCT np.profile_no FROM {_OWNED}
             WHERE e.event = 'Order Completed' AND (e.properties->>'$.total')::DOUBLE >= 300""",
    ),
    Question(
        "spent 500 or more, ever",
        {
            "event": "Order Completed",
            "aggregate": {"fn": "sum", "property": "total"},
            "op": "gte",
            "value": 500,
        },
        f"""SELECT np.profile_no FROM {_OWNED}
             WHERE e.event = 'Order Completed' GROUP BY np.profile_no
            HAVING sum((e.properties->>'$.total')::DOUBLE) >= 500""",
    ),
)

_WORLD = """
INSERT INTO core.events
SELECT i // 1000, i % 1000, (hash(i * 7) % {people})::BIGINT, 's', 'm' || i, 'track',
       CASE WHEN hash(i) % 10 < 3 THEN 'page' WHEN hash(i) % 10 < 4 THEN 'Order Completed'
            ELSE 'Event ' || (hash(i) % 10)::VARCHAR END,
       TIMESTAMPTZ '2026-01-01' + to_microseconds((i * (181 * 86400000000.0 / {events}))::BIGINT),
       TIMESTAMPTZ '2026-01-01' + to_microseconds((i * (181 * 86400000000.0 / {events}))::BIGINT),
       '{{"total":' || (hash(i * 3) % 50000) / 100.0 || ',"currency":"CNY","sku":"sku-'
         || hash(i * 5) % 1000 || '","title":"A thing that people buy","url":"https://x.com/a/b"}}',
       '{{}}', NULL
  FROM range({events}) t(i);
INSERT INTO core.node_profiles SELECT i, '-infinity', 'infinity', i FROM range({people}) t(i);
INSERT INTO core.profiles SELECT i, 'prf_' || i, NULL, 1 FROM range({people}) t(i);
INSERT INTO core.node_traits (node_id, name, value, "at", message_id, source_number)
SELECT i, 'country', CASE WHEN hash(i) % 10 = 0 THEN '"FR"' ELSE '"CN"' END,
       TIMESTAMPTZ '2026-01-01', 'm', 1 FROM range({people}) t(i);
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """Return a row per question for the count (goal 15) and the fetched ids (goal 16)."""
    people, events = (PEOPLE, EVENTS) if quick else (FULL_PEOPLE, FULL_EVENTS)
    rows = []
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        build_world(connection, people, events)
        for question in QUESTIONS:
            rows.append(_count_row(connection, question))
            rows.append(_ids_row(connection, question))
    return rows


def build_world(connection: duckdb.DuckDBPyConnection, people: int, events: int) -> None:
    """Make the product's tables with so many people and events."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(CORE)
    connection.execute(_WORLD.format(people=people, events=events))


def _count_row(connection: duckdb.DuckDBPyConnection, question: Question) -> dict[str, Any]:
    def count(sql: str, params: dict[str, object]) -> int:
        row = connection.execute(f"SELECT count(*) FROM ({sql})", params).fetchone()
        return int(row[0]) if row else 0

    return _row(15, f"count: {question.name}", question, count, at_most=1.15)


def _ids_row(connection: duckdb.DuckDBPyConnection, question: Question) -> dict[str, Any]:
    def fetch(sql: str, params: dict[str, object]) -> int:
        return int(connection.execute(sql, params).to_arrow_table().num_rows)

    return _row(16, f"ids: {question.name}", question, fetch, at_most=1.3)


def _row(
    goal: int,
    name: str,
    question: Question,
    ask: Callable[[str, dict[str, object]], int],
    *,
    at_most: float,
) -> dict[str, Any]:
    def by_rule() -> int:
        statement = compile_rule(parse_rule(question.rule), NOW, "UTC")
        return ask(statement.sql, statement.params)

    def by_hand() -> int:
        return ask(question.by_hand, {})

    # The first call of both also proves that they answer the same question.
    found, expected = by_rule(), by_hand()
    if found != expected:
        raise AssertionError(f"{question.name}: the rule finds {found}, the SQL {expected}")
    pairs = take_turns(ROUNDS, lambda: _timed(by_rule), lambda: _timed(by_hand))
    allowed = ALLOWED_SECONDS if goal == 15 else 0.0
    return compare(
        goal,
        name,
        [max(ours - allowed, 0.0) / theirs for ours, theirs in pairs],
        at_most=at_most,
        seconds=[ours for ours, _ in pairs],
        seconds_by_hand=[theirs for _, theirs in pairs],
        profiles=found,
    )


def _timed(action: Callable[[], int]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
