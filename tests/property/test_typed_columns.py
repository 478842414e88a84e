"""Whatever properties are sent, and whenever a table of typed columns is made: rules that read the
columns select whom the rule means, as those that read the JSON do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.segments.evaluate import aggregate_value, evaluate
from cdp.segments.parse import parse_aggregate, parse_rule
from tests.property.test_rules import (
    EDGES,
    EVENTS,
    NAMES,
    NOWS,
    RELAXED,
    event_parts,
    tag_aggregates,
    worlds,
)
from tests.support.random_rules import Dice
from tests.support.rule_world import Person, connect, facts, load, members, tag_values
from tests.support.typed_world import type_events

World = tuple[datetime, str, list[Person], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def wishes() -> st.SearchStrategy[dict[str, set[str]]]:
    return st.dictionaries(st.sampled_from(EVENTS), st.sets(st.sampled_from(NAMES), max_size=3))


@settings(RELAXED, max_examples=8)
@given(worlds(), wishes(), st.integers(0, 12))
def test_typed_columns_select_exactly_those_for_whom_the_rule_holds(
    duck: duckdb.DuckDBPyConnection, world: World, wanted: dict[str, set[str]], first: int
) -> None:
    now, zone, found, documents = world
    load(duck, found)
    typed = type_events(duck, wanted, first)
    for document in documents:
        rule = parse_rule(document)
        told = [facts(someone) for someone in found]
        expected = [n for n, one in enumerate(told) if evaluate(rule, one, now, timezone=zone)]
        assert members(duck, rule, now, zone, typed=typed) == expected, document


@settings(RELAXED, max_examples=3)
@given(st.integers(0, 2**32), st.sampled_from(NOWS), st.integers(0, 80))
def test_typed_columns_agree_with_the_rule_in_dense_worlds(
    duck: duckdb.DuckDBPyConnection, seed: int, now: datetime, first: int
) -> None:
    dice = Dice(seed, now, EDGES[now])
    found = [dice.person() for _ in range(40)]
    accounts = dice.accounts()
    load(duck, found, accounts=accounts)
    names = {event.name for one in found for node in one.nodes for event in node.events}
    typed = type_events(duck, dict.fromkeys(names, ()), first)
    told = [facts(someone, accounts) for someone in found]
    for _ in range(15):
        document = dice.rule()
        rule = parse_rule(document)
        expected = [n for n, one in enumerate(told) if evaluate(rule, one, now)]
        assert members(duck, rule, now, typed=typed) == expected, document


@settings(RELAXED, max_examples=8)
@given(worlds(), st.lists(st.tuples(event_parts(), tag_aggregates()), min_size=1, max_size=4),
       st.integers(0, 12))  # fmt: skip
def test_a_tag_has_the_same_value_out_of_typed_columns(
    duck: duckdb.DuckDBPyConnection,
    world: World,
    asked: list[tuple[dict[str, Any], dict[str, Any]]],
    first: int,
) -> None:
    now, zone, found, _ = world
    load(duck, found)
    typed = type_events(duck, dict.fromkeys(EVENTS, ()), first)
    for events, aggregate in asked:
        rule = parse_aggregate({**events, **aggregate})
        values = {
            number: aggregate_value(rule, facts(someone), now, timezone=zone)
            for number, someone in enumerate(found)
        }
        expected = {number: value for number, value in values.items() if value is not None}
        assert tag_values(duck, rule, now, zone, typed=typed) == expected, asked
