"""Segment questions against ClickHouse's engine (chDB), on the same data, in one process: goal 17.

Twice per question: the two engines on equal flat tables, each in the order in which it answers this
question faster; and rules as the program asks them, over events as they arrived and the map from
node to profile, against the same flat tables of chDB, whose events already know their profile.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from bench.ratios import compare, take_turns
from cdp.analytics.schema import CORE
from cdp.segments.compile import compile_rule
from cdp.segments.parse import parse_rule
from cdp.settings import Settings

PEOPLE, EVENTS = 200_000, 2_000_000
FULL_PEOPLE, FULL_EVENTS = 1_000_000, 20_000_000
ROUNDS = 9
THREADS = 2
NOW = datetime(2026, 7, 1, tzinfo=UTC)

# One row in ten is an order, three are pages; the rest is what rules must skip.
_FLAT = """
CREATE TABLE flat AS
SELECT (hash(i * 7) % {people})::BIGINT AS profile_no,
       CASE WHEN hash(i) % 10 < 3 THEN 'page' WHEN hash(i) % 10 < 4 THEN 'Order Completed'
            ELSE 'Event ' || (hash(i) % 10)::VARCHAR END AS event,
       TIMESTAMPTZ '2026-01-01' + to_microseconds((i * (181 * 86400000000.0 / {events}))::BIGINT)
         AS ts,
       (hash(i * 3) % 50000)::BIGINT AS total
  FROM range({events}) t(i);
CREATE TABLE people AS
SELECT i AS profile_no, CASE WHEN hash(i) % 10 = 0 THEN 'FR' ELSE 'CN' END AS country
  FROM range({people}) t(i);
COPY flat TO '{folder}/events.parquet';
COPY people TO '{folder}/people.parquet';
"""
# As events arrive; and the flat table in both orders that suit questions of one event.
_OURS = """
INSERT INTO core.events
SELECT row_number() OVER () // 1000, row_number() OVER () % 1000, profile_no, 's', 'm', 'track',
       event, ts, ts, '{}', '{}', NULL
  FROM flat;
INSERT INTO core.node_profiles SELECT profile_no, '-infinity', 'infinity', profile_no FROM people;
INSERT INTO core.profiles SELECT profile_no, 'prf_' || profile_no, NULL, 1 FROM people;
INSERT INTO core.node_traits (node_id, name, value, "at", message_id, source_number)
SELECT profile_no, 'country', '"' || country || '"', TIMESTAMPTZ '2026-01-01', 'm', 1 FROM people;
CREATE TABLE by_time AS FROM flat ORDER BY event, ts;
CREATE TABLE by_person AS FROM flat ORDER BY event, profile_no, ts;
DROP TABLE flat;
CHECKPOINT;
"""
_THEIR_EVENTS = """
CREATE TABLE bench.{name} (
    profile_no UInt64, event LowCardinality(String), ts DateTime64(6, 'UTC'), total Int64
) ENGINE = MergeTree ORDER BY ({order})"""
_ORDERS = ("by_time", "by_person")
_THEIRS = (
    "CREATE DATABASE bench",
    _THEIR_EVENTS.format(name="by_person", order="event, profile_no, ts"),
    _THEIR_EVENTS.format(name="by_time", order="event, ts"),
    """CREATE TABLE bench.people (profile_no UInt64, country LowCardinality(String))
       ENGINE = MergeTree ORDER BY (country, profile_no)""",
    *(
        f"""INSERT INTO bench.{order} SELECT profile_no, event, ts, total
              FROM file('{{folder}}/events.parquet')"""
        for order in _ORDERS
    ),
    "INSERT INTO bench.people SELECT profile_no, country FROM file('{folder}/people.parquet')",
    "OPTIMIZE TABLE bench.by_time FINAL",
    "OPTIMIZE TABLE bench.by_person FINAL",
    "OPTIMIZE TABLE bench.people FINAL",
    f"SET max_threads = {THREADS}",
)

_MONTH = "ts > {utc}'2026-06-01 00:00:00' AND ts <= {utc}'2026-07-01 00:00:00'"
_OFTEN = """SELECT profile_no FROM {events} WHERE event = '{event}' {window}
 GROUP BY profile_no HAVING count(*) >= {times}"""
_FRENCH = "SELECT profile_no FROM {people} WHERE country = 'FR'"
_RFM = """
SELECT r, f, m, count(*) AS customers
  FROM (SELECT ntile(5) OVER (ORDER BY latest) AS r, ntile(5) OVER (ORDER BY orders) AS f,
               ntile(5) OVER (ORDER BY revenue) AS m
          FROM (SELECT profile_no, max(ts) AS latest, count(*) AS orders, sum(total) AS revenue
                  FROM {events} WHERE event = 'Order Completed' GROUP BY profile_no))
 GROUP BY r, f, m
"""


@dataclass(frozen=True, slots=True)
class Question:
    """``sql`` counts people in both dialects; ``rule`` is how the program is asked."""

    name: str
    sql: str
    rule: dict[str, Any] | None = None


def _ask_orders(event: str, times: int) -> dict[str, Any]:
    return {
        "event": event,
        "within": {"last": "30d"},
        "count": {"op": "gte", "value": times},
    }


_LIVES_IN_FRANCE = {"trait": "country", "op": "eq", "value": "FR"}


def _both(event: str) -> str:
    often = _OFTEN.replace("{event}", event).replace("{times}", "3")
    return f"SELECT count(*) FROM ({often}) AS o WHERE profile_no IN ({_FRENCH})"


QUESTIONS = (
    Question(
        "ordered 3 times in 30 days and lives in FR",
        _both("Order Completed"),
        {"all": [_ask_orders("Order Completed", 3), _LIVES_IN_FRANCE]},
    ),
    Question(
        "saw 3 pages in 30 days and lives in FR",
        _both("page"),
        {"all": [_ask_orders("page", 3), _LIVES_IN_FRANCE]},
    ),
    Question(
        "did not order in 30 days and lives in FR",
        f"SELECT count(*) FROM ({_FRENCH}) AS f WHERE profile_no NOT IN ("
        + _OFTEN.replace("{event}", "Order Completed").replace("{times}", "1")
        + ")",
        {"all": [{"not": _ask_orders("Order Completed", 1)}, _LIVES_IN_FRANCE]},
    ),
    Question(
        "saw 3 pages, ever",
        "SELECT count(*) FROM ("
        + _OFTEN.replace("{event}", "page").replace("{times}", "3").replace("{window}", "")
        + ") AS o",
        {"event": "page", "count": {"op": "gte", "value": 3}},
    ),
    # Cuts by fifths have ties, so the groups differ a little; the customers in them do not.
    Question("RFM by fifths of all customers", f"SELECT sum(customers) FROM ({_RFM}) AS g"),
)  # fmt: skip


class Engines:
    """Both engines with the same data."""

    def __init__(self, folder: Path, people: int, events: int) -> None:
        from chdb import session  # type: ignore[import-not-found]

        self._duck = duckdb.connect(
            str(folder / "ours.duckdb"),
            config={"threads": THREADS, "memory_limit": Settings().duckdb_memory},
        )
        self._duck.execute("SET TimeZone = 'UTC'")
        self._duck.execute("SET preserve_insertion_order = true")
        self._duck.execute(CORE)
        self._duck.execute(_FLAT.format(people=people, events=events, folder=folder))
        self._duck.execute(_OURS)
        self._house = session.Session(str(folder / "theirs"))
        for statement in _THEIRS:
            self._house.query(statement.replace("{folder}", str(folder)))

    def close(self) -> None:
        self._duck.close()
        self._house.close()

    def ask_duck(self, question: Question, order: str) -> int:
        """Ask the flat tables."""
        sql = _fill(question.sql, events=order, people="people", utc="TIMESTAMPTZ ")
        row = self._duck.execute(sql).fetchone()
        return int(row[0]) if row else 0

    def ask_rule(self, question: Question, order: str) -> int:
        """Ask as the program does: rule document → tree → SQL → result. It knows one order."""
        statement = compile_rule(parse_rule(question.rule), NOW, "UTC")
        row = self._duck.execute(
            f"SELECT count(*) FROM ({statement.sql})", statement.params
        ).fetchone()
        return int(row[0]) if row else 0

    def ask_house(self, question: Question, order: str) -> int:
        """Ask chDB."""
        sql = _fill(question.sql, events=f"bench.{order}", people="bench.people", utc="TIMESTAMP ")
        return int(self._house.query(sql, "CSV").data())


def _fill(sql: str, *, events: str, people: str, utc: str) -> str:
    window = f"AND {_MONTH.format(utc=utc)}"
    return sql.format(events=events, people=people, window=window)


@contextmanager
def _open_engines(people: int, events: int) -> Iterator[Engines]:
    with tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder:
        engines = Engines(Path(folder), people, events)
        try:
            yield engines
        finally:
            engines.close()


def run(quick: bool) -> list[dict[str, Any]]:
    """Return, per question, the engines side by side, and the program's rule beside chDB."""
    if importlib.util.find_spec("chdb") is None:
        missing = "chDB is not installed: `make bench-full` brings it"
        return [{"goal": 17, "name": missing, "skipped": True}]
    people, events = (PEOPLE, EVENTS) if quick else (FULL_PEOPLE, FULL_EVENTS)
    rows = []
    with _open_engines(people, events) as engines:
        for question in QUESTIONS:
            theirs = _choose_order(engines.ask_house, question)
            ours = _choose_order(engines.ask_duck, question)
            rows.append(_compare(f"DuckDB / chDB: {question.name}", ours, theirs))
            if question.rule is not None:
                rule = Asker(engines.ask_rule, question, "arrival")
                rows.append(_compare(f"the rule / chDB: {question.name}", rule, theirs))
    return rows


@dataclass(frozen=True, slots=True)
class Asker:
    """One way to ask one question."""

    ask: Callable[[Question, str], int]
    question: Question
    order: str

    def __call__(self) -> int:
        return self.ask(self.question, self.order)

    def time(self) -> float:
        """Seconds for one answer."""
        started = time.perf_counter()
        self()
        return time.perf_counter() - started


def _choose_order(ask: Callable[[Question, str], int], question: Question) -> Asker:
    """The order of events in which the engine answers faster, after a look at both."""
    askers = [Asker(ask, question, order) for order in _ORDERS]
    return min(askers, key=lambda asker: min(asker.time() for _ in range(5)))


def _compare(name: str, ours: Asker, theirs: Asker) -> dict[str, Any]:
    # The first call of both also proves that they answer the same question.
    found, expected = ours(), theirs()
    if found != expected:
        raise AssertionError(f"{name}: found {found} and {expected}")
    pairs = take_turns(ROUNDS, ours.time, theirs.time)
    return compare(
        17,
        name,
        [mine / other for mine, other in pairs],
        at_most=1.0,
        seconds=[mine for mine, _ in pairs],
        seconds_of_chdb=[other for _, other in pairs],
        orders=(ours.order, theirs.order),
        profiles=found,
    )
