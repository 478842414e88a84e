"""Whatever the people and the rule: the SQL selects exactly those for whom the rule holds.

The worlds are small and the values few, so that equal values, equal times and times exactly on the
edge of a window are common rather than rare.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cdp.segments.evaluate import (
    ConsentFact,
    EventFact,
    TraitFact,
    aggregate_value,
    evaluate,
    explain,
)
from cdp.segments.parse import parse_aggregate, parse_rule
from cdp.segments.rules import FUNCTIONS
from cdp.segments.times import read_duration, step_back
from cdp.segments.windows import calendar_period
from tests.support.random_rules import Dice
from tests.support.rule_world import (
    Node,
    Person,
    connect,
    facts,
    load,
    members,
    members_of_copies,
    tag_values,
)

ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu")
NOWS = tuple(
    datetime.fromisoformat(text).replace(tzinfo=UTC)
    for text in (
        "2026-03-31T12:00:00",
        "2026-03-29T00:30:00.123456",
        "2024-02-29T23:59:59.999999",
        "2026-01-01T00:00:00",
        "2026-11-01T05:30:00",
    )
)
DURATIONS = ("1m", "1h", "1d", "7d", "1w", "1mo", "13mo", "1y", "0d")
NAMES = ("p", "q", "a.b", 'c"d', "城市", "0", "/~", "*", "b")
EVENTS = ("Order Completed", "page", "注册")
PATHS = (
    "p", "q", r"a\.b", 'c"d', "城市", "0", "/~", "*", "p.b", "p.0", "p.b.q", r"p.a\.b", "q.b",
    "p.p", "never", "b.0",
)  # fmt: skip
TEXTS = (
    "", "a", "ab", "A", "b", "é", "e\u0301", "42", "true", "null", "[1]", '"', "%", "城市", "😀",
    "a\nb", "2026-03-01", "2026-03-31T12:00:00Z", "2026-03-31t20:00:00.000+08:00",
    "2026-03-30 12:00:00", "2026-03-30T11:59:59.9999999Z", "2026-02-30", "2026-3-1",
    "2026-03-01T08:00Z", "9999-12-31T23:59:59-10:00", "0000-01-01", "20260301",
    "2026-02-28T12:00:00.000001Z", "2026-03-31T24:00:00Z", "2026-03-31T12:00:00+0800",
    "2024-02-29", "2025-02-29",
)  # fmt: skip
NUMBERS = (0, -0.0, 1, 1.0, 2, -1, 42, 0.1, 0.7, 0.8, 1.5, 1e3, 9007199254740993, 1e18, 1e-7)
scalars = st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans())
json_values = st.recursive(
    st.one_of(scalars, scalars, st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=5,
)
TEXT_OPS = ("contains", "not_contains", "starts_with", "ends_with")
PATTERNS = ("a", "^a$", "(?i)A", "b$", "", r"\d+", "^.b", "市", "[é]", r"a.b", r"\.")


WINDOW_TIMES = (
    "2026-03-01", "2026-03-31T12:00:00Z", "2026-03-31t20:00:00.000+08:00", "2026-03-30 12:00:00",
    "2026-03-30T11:59:59.9999999Z",
)  # fmt: skip


def windows() -> st.SearchStrategy[dict[str, Any]]:
    times = st.sampled_from(WINDOW_TIMES)
    return st.one_of(
        st.sampled_from(DURATIONS).map(lambda d: {"last": d}),
        times.map(lambda t: {"since": t}),
        st.tuples(times, times).map(lambda ends: {"between": list(ends)}),
        st.builds(
            lambda unit, offset, zone: {"calendar": unit, **offset, **zone},
            st.sampled_from(("day", "week", "month", "quarter", "year")),
            st.sampled_from(({}, {"offset": -1}, {"offset": 0}, {"offset": -2}, {"offset": 1})),
            st.sampled_from(({}, *({"tz": zone} for zone in ZONES))),
        ),
    )


def _edges(now: datetime) -> list[datetime]:
    edges = [now]
    edges += [step_back(now, d) for text in DURATIONS if (d := read_duration(text))]
    for zone in ZONES:
        for unit in ("day", "week", "month", "quarter", "year"):
            for offset in (-1, 0):
                edges += calendar_period(unit, offset, zone, now)  # type: ignore[arg-type]
    edges += [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 30, 31)]
    edges.append(datetime(2026, 3, 31, 12, tzinfo=UTC))
    return sorted(set(edges))


EDGES = {now: _edges(now) for now in NOWS}


def times(now: datetime) -> st.SearchStrategy[datetime]:
    nudges = st.sampled_from((0, 0, 0, 1, -1, 1000, -3_600_000_000, 3_600_000_000, 86_400_000_000))
    return st.builds(
        lambda edge, nudge: edge + timedelta(microseconds=nudge),
        st.sampled_from(EDGES[now]),
        nudges,
    )


def comparisons() -> st.SearchStrategy[dict[str, Any]]:
    pair = st.one_of(
        st.lists(st.sampled_from(TEXTS), min_size=2, max_size=2),
        st.lists(st.sampled_from(NUMBERS), min_size=2, max_size=2),
        st.lists(st.booleans(), min_size=2, max_size=2),
    )
    days = st.sampled_from(("2026-03-01", "2026-03-31T12:00:00Z", "2024-02-29T00:00:00+08:00"))
    long = st.lists(scalars, min_size=10, max_size=20)

    def of(ops: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.builds(lambda op, value: {"op": op, "value": value}, st.sampled_from(ops), values)

    return st.one_of(
        of(("eq", "ne"), scalars),
        of(("gt", "gte", "lt", "lte"), scalars),
        of(("between",), pair),
        of(("in", "not_in"), st.one_of(st.lists(scalars, max_size=4), long)),
        of(TEXT_OPS, st.sampled_from(TEXTS)),
        of(("matches",), st.sampled_from(PATTERNS)),
        of(("before", "after"), days),
        of(("within_last", "not_within_last"), st.sampled_from(DURATIONS)),
        st.sampled_from(({"op": "exists"}, {"op": "not_exists"})),
    )


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda p, c: {"property": p, **c}, st.sampled_from(PATHS), comparisons())


def event_parts() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda name, where, within: {"event": name, **where, **within},
        st.sampled_from(EVENTS),
        st.one_of(st.just({}), st.lists(conditions(), max_size=2).map(lambda w: {"where": w})),
        windowed(),
    )


def counts() -> st.SearchStrategy[dict[str, Any]]:
    numbers = st.sampled_from((0, 1, 2, 3, 1.5, -1))
    return st.one_of(
        st.builds(
            lambda op, n: {"op": op, "value": n},
            st.sampled_from(("eq", "ne", "gt", "gte", "lt", "lte")),
            numbers,
        ),
        st.tuples(numbers, numbers).map(lambda ends: {"op": "between", "value": list(ends)}),
    )


def aggregates() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda fn, path: {"fn": fn} if fn.startswith("days") else {"fn": fn, "property": path},
        st.sampled_from(FUNCTIONS),
        st.sampled_from(PATHS[:10]),
    )


def tag_aggregates() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), aggregates().map(lambda a: {"aggregate": a}))


def steps() -> st.SearchStrategy[list[dict[str, Any]]]:
    gap = st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {}, optional={k: st.sampled_from(DURATIONS) for k in ("min", "max")}
        ).map(lambda after: {"after": after}),
    )
    where = st.one_of(st.just({}), st.lists(conditions(), max_size=1).map(lambda w: {"where": w}))
    step = st.builds(
        lambda name, where, gap: ({"event": name, **where}, gap),
        st.sampled_from(EVENTS),
        where,
        gap,
    )
    return st.lists(step, min_size=1, max_size=4).map(
        lambda found: [
            {**body, **(gap if index else {})} for index, (body, gap) in enumerate(found)
        ]
    )


def windowed() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), windows().map(lambda window: {"within": window}))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda drawn: {k: v for part in drawn for k, v in part.items()})


def one_key(key: str, values: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from(values).map(lambda value: {key: value})


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        merged(one_key("trait", PATHS), comparisons()),
        merged(one_key("tag", ("t", "t.b", "t.p.0", "t.p")), comparisons()),
        merged(one_key("identifier", ("email", "user_id", "phone")), comparisons()),
        one_key("segment", ("s1", "s2")),
        merged(one_key("consent", ("marketing", "ads", "x")), one_key("op", ("granted", "denied"))),
        event_parts(),
        merged(event_parts(), counts().map(lambda count: {"count": count})),
        merged(event_parts(), aggregates().map(lambda a: {"aggregate": a}), comparisons()),
        merged(steps().map(lambda found: {"sequence": found}), windowed()),
    )


def rules() -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda parts: {"all": parts}),
            st.lists(inner, max_size=4).map(lambda parts: {"any": parts}),
            inner.map(lambda part: {"not": part}),
        ),
        max_leaves=5,
    )


def nodes(now: datetime) -> st.SearchStrategy[Node]:
    moments = times(now)
    ids, sources = st.sampled_from(("m1", "m2", "M", "é")), st.integers(1, 2)
    properties = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4)
    event_names, letters = st.sampled_from(EVENTS), st.sampled_from(("s", "t"))
    event = st.builds(EventFact, event_names, moments, ids, letters, properties)
    said = st.one_of(
        json_values.map(lambda value: ("", value)),
        json_values.map(lambda value: ("~once", {"$set_once": value})),
        st.sampled_from(TEXTS).map(lambda value: ("~add/", {"$add": [value]})),
        st.sampled_from(TEXTS).map(lambda value: ("/a", {"a": value})),
    )
    trait = st.builds(
        lambda name, said, at, message_id, source, rank: TraitFact(
            name, said[1], at, message_id, source, said[0], rank
        ),
        st.sampled_from(NAMES),
        said,
        moments,
        ids,
        sources,
        st.sampled_from([0, 0, 0, 7]),
    )
    purposes = st.sampled_from(("marketing", "ads"))
    consent = st.builds(ConsentFact, purposes, st.booleans(), moments, ids, sources)
    return st.builds(
        Node,
        st.sampled_from(("email", "user_id", "anonymous_id")),
        st.sampled_from(TEXTS),
        st.lists(trait, max_size=4, unique_by=lambda fact: (fact.name, fact.part)),
        st.lists(consent, max_size=2, unique_by=lambda fact: fact.purpose),
        st.lists(event, max_size=5, unique_by=lambda fact: (fact.message_id, fact.source)),
        st.sampled_from(("", "", "shared")),
    )


def _unambiguous(someone: Person) -> bool:
    """Two facts of one message about one thing hang on one node, as in the product."""
    stamps = [
        (fact[0], fact.at, fact.message_id, fact.source)
        for node in someone.nodes
        for fact in (*node.traits, *node.consents)
    ]
    messages = [(e.message_id, e.source) for node in someone.nodes for e in node.events]
    return len(set(stamps)) == len(stamps) and len(set(messages)) == len(messages)


def people(now: datetime) -> st.SearchStrategy[Person]:
    return st.builds(
        Person,
        st.lists(nodes(now), min_size=1, max_size=3),
        st.dictionaries(st.just("t"), json_values.filter(lambda v: v is not None), max_size=1),
        st.frozensets(st.sampled_from(("s1", "s2"))),
        st.one_of(st.none(), times(now)),
    ).filter(_unambiguous)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[datetime, str, list[Person], list[dict[str, Any]]]:
    now = draw(st.sampled_from(NOWS))
    found = draw(st.lists(people(now), min_size=1, max_size=4))
    return now, draw(st.sampled_from(ZONES)), found, draw(st.lists(rules(), min_size=1, max_size=4))


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


PHASES = tuple(p for p in Phase if p is not Phase.shrink)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
RELAXED = settings(max_examples=60, deadline=None, phases=PHASES, suppress_health_check=SLOW)


@settings(RELAXED)
@given(worlds())
def test_the_sql_selects_exactly_those_for_whom_the_rule_holds(
    duck: duckdb.DuckDBPyConnection,
    world: tuple[datetime, str, list[Person], list[dict[str, Any]]],
) -> None:
    now, zone, found, documents = world
    load(duck, found)
    for document in documents:
        rule = parse_rule(document)
        expected = [
            number
            for number, someone in enumerate(found)
            if evaluate(rule, facts(someone), now, timezone=zone)
        ]
        assert members(duck, rule, now, zone) == expected, document


@settings(RELAXED, max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(NOWS), st.sampled_from(ZONES))
def test_the_sql_agrees_with_the_rule_in_dense_worlds(
    duck: duckdb.DuckDBPyConnection, seed: int, now: datetime, zone: str
) -> None:
    dice = Dice(seed, now, EDGES[now])
    found = [dice.person() for _ in range(40)]
    accounts = dice.accounts()
    load(duck, found, accounts=accounts)
    told = [facts(someone, accounts) for someone in found]
    for _ in range(15):
        document = dice.rule()
        rule = parse_rule(document)
        expected = [n for n, one in enumerate(told) if evaluate(rule, one, now, timezone=zone)]
        assert members(duck, rule, now, zone) == expected, document


@settings(RELAXED, max_examples=8)
@given(st.integers(0, 2**32), st.sampled_from(NOWS), st.sets(st.integers(0, 39), max_size=20))
def test_the_sql_agrees_with_rules_over_accounts(
    duck: duckdb.DuckDBPyConnection, seed: int, now: datetime, scope: set[int]
) -> None:
    dice = Dice(seed, now, EDGES[now])
    found, accounts = [dice.person() for _ in range(40)], dice.accounts()
    load(duck, found, sorted(scope), accounts)
    told = [facts(someone, accounts) for someone in found]
    for _ in range(10):
        document = {"account": dice.account_rule()}
        rule = parse_rule(document)
        expected = [n for n, one in enumerate(told) if evaluate(rule, one, now)]
        assert members(duck, rule, now) == expected, document
        inside = [number for number in expected if number in scope]
        assert members(duck, rule, now, scope=True) == inside, document


@settings(RELAXED)
@given(worlds(), st.sets(st.integers(0, 5)))
def test_a_scope_selects_the_same_profiles_among_those_in_it(
    duck: duckdb.DuckDBPyConnection,
    world: tuple[datetime, str, list[Person], list[dict[str, Any]]],
    scope: set[int],
) -> None:
    now, zone, found, documents = world
    load(duck, found, sorted(scope))
    for document in documents:
        rule = parse_rule(document)
        inside = [number for number in members(duck, rule, now, zone) if number in scope]
        assert members(duck, rule, now, zone, scope=True) == inside, document
        assert members_of_copies(duck, rule, now, zone) == inside, document


@settings(RELAXED)
@given(
    worlds(), event_parts(), st.one_of(st.just({}), aggregates().map(lambda a: {"aggregate": a}))
)
def test_a_tag_has_the_value_that_the_aggregate_means(
    duck: duckdb.DuckDBPyConnection,
    world: tuple[datetime, str, list[Person], list[dict[str, Any]]],
    events: dict[str, Any],
    aggregate: dict[str, Any],
) -> None:
    now, zone, found, _ = world
    load(duck, found)
    rule = parse_aggregate({**events, **aggregate})
    values = {
        number: aggregate_value(rule, facts(someone), now, timezone=zone)
        for number, someone in enumerate(found)
    }
    expected = {number: value for number, value in values.items() if value is not None}
    assert tag_values(duck, rule, now, zone) == expected


@settings(RELAXED)
@given(worlds())
def test_an_explanation_holds_exactly_when_the_rule_does(
    world: tuple[datetime, str, list[Person], list[dict[str, Any]]],
) -> None:
    now, zone, found, documents = world
    for document in documents:
        rule = parse_rule(document)
        for someone in found:
            why = explain(rule, facts(someone), now, timezone=zone)
            assert why["holds"] == evaluate(rule, facts(someone), now, timezone=zone)
