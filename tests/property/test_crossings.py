"""Whoever time alone moves between two looks is found by what came of age in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cdp.segments.crossings_engine import find_crossed
from cdp.segments.evaluate import EventFact, TraitFact
from cdp.segments.flips import Flips, find_flips
from cdp.segments.parse import parse_aggregate, parse_rule
from cdp.segments.times import read_duration, step_back
from tests.support.rule_world import (
    Belonging,
    Node,
    OrderRow,
    Person,
    connect,
    load,
    members,
    tag_values,
)

SINCE = datetime(2026, 3, 31, 12, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AGES = ("1m", "36h", "1d", "2w", "1mo", "13mo", "1y", "0d")
STRETCHES = (
    timedelta(seconds=2), timedelta(hours=1), DAY - timedelta(microseconds=1), DAY, 40 * DAY,
)  # fmt: skip
ZONES = (UTC, timezone(timedelta(hours=8)), timezone(-timedelta(hours=11)))

RULES: list[dict[str, Any]] = [
    *({"trait": "until", "op": "within_last", "value": age} for age in AGES),
    {"trait": "until", "op": "not_within_last", "value": "1mo"},
    {"trait": r"a\.b", "op": "within_last", "value": "2w"},
    {"trait": "until.x", "op": "within_last", "value": "1d"},
    {"not": {"any": [{"trait": "until.x.y", "op": "not_within_last", "value": "1d"}]}},
    {"tag": "t", "op": "within_last", "value": "36h"},
    {"tag": "t.x", "op": "not_within_last", "value": "1mo"},
    {"account": {"trait": "until", "op": "within_last", "value": "1mo"}},
    {"account": {"not": {"trait": "until.x", "op": "not_within_last", "value": "1d"}}},
    {"event": "E", "within": {"last": "36h"}},
    {"orders": {}, "aggregate": {"fn": "days_since_last"}, "op": "gte", "value": 2.5},
]
AGGREGATES: list[dict[str, Any]] = [
    {"event": "E", "aggregate": {"fn": "days_since_last"}},
    {"event": "E", "aggregate": {"fn": "days_since_first"}, "within": {"last": "1mo"}},
    {"orders": {}, "aggregate": {"fn": "days_since_last"}},
]


class World:
    """People whose times lie on the edges of ages, from one seed."""

    def __init__(self, seed: int, now: datetime) -> None:
        self.random = random.Random(seed)
        self.now = now
        self.people = [self.person() for _ in range(30)]
        self.accounts = {
            name: [TraitFact("until", self.value(), LONG_AGO, "m", 1)] for name in ("acme", "beta")
        }

    def person(self) -> Person:
        names = ("until", "a.b", "other")
        traits = [TraitFact(name, self.value(), LONG_AGO, "m", 1) for name in names]
        events = [EventFact("E", self.past(), f"m{number}", "s") for number in range(2)]
        orders = [OrderRow(f"o{number}", self.past(), total=100) for number in range(2)]
        belongings = [Belonging(self.random.choice(("acme", "beta")), True, LONG_AGO)]
        node = Node("user_id", "x", traits, (), events, "", orders, belongings)
        return Person([node], {"t": self.value()})

    def moment(self) -> datetime:
        edge = self.random.choice((SINCE, self.now))
        age = read_duration(self.random.choice(AGES))
        assert age is not None
        nudge = self.random.choice((0, 0, 1, -1, 1_000_000, -3_600_000_000, 50_000_000_000))
        return step_back(edge, age) + timedelta(microseconds=nudge)

    def past(self) -> datetime:
        moment = self.moment() - self.random.choice((0, 1, 2, 3, 30)) * DAY
        return moment if moment <= SINCE else moment - 50 * DAY

    def value(self) -> Any:
        roll = self.random.random()
        if roll < 0.6:
            return self.moment().astimezone(self.random.choice(ZONES)).isoformat()
        if roll < 0.7:
            return self.random.choice((None, 7, "soon", "2026-03-31", [], True))
        if roll < 0.85:
            return [self.value() for _ in range(2)]
        return {"x": self.value(), "y": self.value()}


def crossed_people(
    duck: duckdb.DuckDBPyConnection, flips: Flips, since: datetime, now: datetime
) -> set[int]:
    found = find_crossed(duck, flips.crossings, since, now, scans=flips.scans)
    assert found <= flips.names
    return {row[0] for row in duck.execute("SELECT profile_no FROM crossed").fetchall()}


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@settings(max_examples=15, deadline=None, phases=[p for p in Phase if p is not Phase.shrink])
@given(st.integers(0, 2**32), st.sampled_from(STRETCHES))
def test_whose_answer_differs_is_among_those_that_are_found(
    duck: duckdb.DuckDBPyConnection, seed: int, stretch: timedelta
) -> None:
    now = SINCE + stretch
    world = World(seed, now)
    load(duck, world.people, accounts=world.accounts)
    for document in RULES:
        rule = parse_rule(document)
        flips = find_flips([rule])
        assert flips.is_complete
        flipped = set(members(duck, rule, SINCE)) ^ set(members(duck, rule, now))
        assert flipped <= crossed_people(duck, flips, SINCE, now), document
    for document in AGGREGATES:
        figure = parse_aggregate(document)
        before, after = tag_values(duck, figure, SINCE), tag_values(duck, figure, now)
        moved = {n for n in {*before, *after} if before.get(n) != after.get(n)}
        assert moved <= crossed_people(duck, find_flips([figure]), SINCE, now), document


@pytest.mark.parametrize(
    ("rule", "value", "is_found"),
    [
        (RULES[0], "2026-03-31T12:00:01Z", True),
        (RULES[0], "2026-03-31T20:00:01+08:00", True),
        (RULES[0], "2026-03-31T12:00:00Z", False),
        (RULES[0], "2026-03-31T11:59:01Z", True),
        (RULES[0], "2026-03-31T12:01:00Z", False),
        (RULES[0], "2026-03-31T11:58:00Z", False),
        (RULES[0], ["soon", {"deep": "2026-03-31T12:00:01Z"}], True),
        (RULES[0], ["2026-03-31T14:00:01Z"], False),
        (RULES[0], "soon", False),
    ],
    ids=[
        "comes", "comes in another zone", "has come", "leaves", "comes later", "has left", "nested",
        "nested but later", "no time",
    ],
)  # fmt: skip
def test_only_who_may_flip_is_found(
    duck: duckdb.DuckDBPyConnection, rule: Any, value: Any, is_found: bool
) -> None:
    someone = Person([Node("user_id", "x", [TraitFact("until", value, LONG_AGO, "m", 1)])])
    load(duck, [someone])
    flips = find_flips([parse_rule(rule)])
    found = crossed_people(duck, flips, SINCE, SINCE + timedelta(seconds=2))
    assert found == ({0} if is_found else set())


@pytest.mark.parametrize(
    ("ago", "is_found"), [(3 * DAY, True), (3 * DAY - timedelta(hours=1), False), (0 * DAY, False)]
)
def test_another_day_has_passed_for_whoever_came_at_this_time_of_day(
    duck: duckdb.DuckDBPyConnection, ago: timedelta, is_found: bool
) -> None:
    now = SINCE + timedelta(seconds=2)
    load(duck, [Person([Node(events=[EventFact("E", now - ago, "m", "s")])])])
    flips = find_flips([parse_aggregate(AGGREGATES[0])])
    assert crossed_people(duck, flips, SINCE, now) == ({0} if is_found else set())
