"""What rules must withstand in a real DuckDB: large rules, hostile names, strange values, and
facts whose owner changes or is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from cdp.model import DEFAULT_CONSENT_AT
from cdp.segments.compile import compile_rule
from cdp.segments.evaluate import ConsentFact, EventFact, TraitFact
from cdp.segments.parse import parse_aggregate, parse_rule
from tests.support.rule_world import (
    connect,
    load,
    members,
    person,
    profile_numbers,
    tag_values,
)

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def select(duck: duckdb.DuckDBPyConnection, document: dict[str, Any]) -> list[int]:
    return members(duck, parse_rule(document), NOW)


def trait(name: str, value: Any) -> TraitFact:
    return TraitFact(name, value, YESTERDAY, "m")


def event(name: str = "E", at: datetime = YESTERDAY, **properties: Any) -> EventFact:
    return EventFact(name, at, "m", "s", properties)


@pytest.mark.parametrize(
    "leaves",
    [
        [{"trait": "p", "op": "eq", "value": number} for number in range(1000)],
        [{"trait": f"t{number}", "op": "eq", "value": number} for number in range(1000)],
        [{"event": f"E{number}"} for number in range(1000)],
    ],
    ids=["one trait", "many traits", "many events"],
)
def test_31_a_thousand_leaves_are_served(
    duck: duckdb.DuckDBPyConnection, leaves: list[dict[str, Any]]
) -> None:
    known = person(traits=[trait("p", 7), trait("t7", 7)], events=[event("E7")])
    load(duck, [known, person()])
    assert select(duck, {"any": leaves}) == [0]
    assert select(duck, {"all": [{"not": leaf} for leaf in leaves]}) == [1]
    assert select(duck, {"all": leaves}) == []


def test_31_lists_of_ten_thousand_values_are_served(duck: duckdb.DuckDBPyConnection) -> None:
    values = [*range(5_000), *(f"v{number}" for number in range(5_000))]
    load(duck, [person(traits=[trait("p", found)]) for found in ("v4999", 4999, "x", ["x", "v1"])])
    assert select(duck, {"trait": "p", "op": "in", "value": values}) == [0, 1, 3]
    assert select(duck, {"trait": "p", "op": "not_in", "value": values}) == [2]


@pytest.mark.parametrize(
    "name", ["a'; DROP TABLE core.events; --", '"', "$p1", "a/b~c", "$.x[*]", "*", "名\n前", "#-1"]
)
def test_12_any_name_is_only_a_name(duck: duckdb.DuckDBPyConnection, name: str) -> None:
    facts = person(traits=[trait(name, name)], events=[event(name, **{name: name})])
    load(duck, [facts, person(traits=[trait("other", 1)])])
    path = name.replace("\\", "\\\\").replace(".", "\\.")
    equal = {"op": "eq", "value": name}
    assert select(duck, {"trait": path, **equal}) == [0]
    assert select(duck, {"event": name, "where": [{"property": path, **equal}]}) == [0]
    statement = compile_rule(parse_rule({"trait": path, **equal}), NOW, "UTC")
    assert name not in statement.sql or name in ('"', "*", "$p1")


def test_values_that_fit_no_double_or_decimal_raise_nothing(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    load(duck, [person(events=[event(p=1)]), person(events=[event(p=2)])])
    duck.execute(
        "UPDATE core.events SET properties = '{\"p\": 1e400}' WHERE properties->>'p' = '1'"
    )
    duck.execute(
        "UPDATE core.events SET properties = '{\"p\": 1e300}' WHERE properties->>'p' = '2'"
    )
    total = {"event": "E", "aggregate": {"fn": "sum", "property": "p"}}
    assert select(duck, {**total, "op": "gt", "value": 1e299}) == [0, 1]
    where = [{"property": "p", "op": "lte", "value": 1e300}]
    assert select(duck, {"event": "E", "where": where}) == [1]


def test_a_shared_devices_facts_belong_to_whoever_held_it_at_their_time(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    facts = [event("Before", NOW - timedelta(days=3)), event("After", NOW - timedelta(days=1))]
    consent = ConsentFact("marketing", True, NOW - timedelta(days=3), "m", 1)
    load(duck, [person(events=facts, traits=[trait("p", 1)], consents=[consent]), person()])
    handover = NOW - timedelta(days=2)
    duck.execute("UPDATE core.node_profiles SET until = ? WHERE node_id = 0", [handover])
    duck.execute("INSERT INTO core.node_profiles VALUES (0, ?, 'infinity', 1)", [handover])
    assert select(duck, {"event": "Before"}) == [0]
    assert select(duck, {"event": "After"}) == [1]
    assert select(duck, {"trait": "p", "op": "exists"}) == [1]
    assert select(duck, {"consent": "marketing", "op": "granted"}) == [0]


def test_what_a_source_takes_for_granted_gives_way_to_whatever_was_said(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    refused = ConsentFact("marketing", False, DEFAULT_CONSENT_AT, "default-refused", 1)
    agreed = ConsentFact("marketing", True, NOW - timedelta(days=3), "m", 1)
    joined_at = NOW - timedelta(days=1)
    load(
        duck,
        [
            person(consents=[refused]),
            person(consents=[refused, agreed], joined_at=joined_at),
            person(consents=[refused], joined_at=joined_at),
        ],
    )
    assert select(duck, {"consent": "marketing", "op": "granted"}) == [1]
    assert select(duck, {"consent": "marketing", "op": "denied"}) == [0, 2]


def test_an_identifier_names_the_profile_that_holds_it_now(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    load(duck, [person(identifiers={"email": ["a@x.com"]}), person()])
    duck.execute("UPDATE core.node_profiles SET until = ? WHERE node_id = 1", [YESTERDAY])
    duck.execute("INSERT INTO core.node_profiles VALUES (1, ?, 'infinity', 1)", [YESTERDAY])
    assert select(duck, {"identifier": "email", "op": "eq", "value": "a@x.com"}) == [1]


def test_results_about_profiles_that_are_gone_select_nobody(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    load(duck, [person(tags={"t": "x"}, segments=frozenset({"s"})), person()])
    duck.execute("DELETE FROM core.profiles WHERE profile_no = 0")
    assert select(duck, {"tag": "t", "op": "eq", "value": "x"}) == []
    assert select(duck, {"segment": "s"}) == []
    assert select(duck, {"tag": "t", "op": "not_exists"}) == [1]
    assert select(duck, {"all": []}) == [1]


def test_a_contradiction_selects_nobody_and_a_tautology_everybody(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    load(duck, [person(traits=[trait("p", 1)]), person()])
    leaf = {"trait": "p", "op": "eq", "value": 1}
    assert select(duck, {"all": [leaf, {"not": leaf}]}) == []
    assert select(duck, {"any": [leaf, {"not": leaf}]}) == [0, 1]


def test_one_and_true_stay_apart_in_one_rule(duck: duckdb.DuckDBPyConnection) -> None:
    load(duck, [person(traits=[trait("p", 1)]), person(traits=[trait("p", True)])])
    number, truth = ({"trait": "p", "op": "eq", "value": value} for value in (1, True))
    assert select(duck, {"any": [{"all": [number]}, {"all": [number, truth]}]}) == [0]
    assert select(duck, {"any": [{"all": [truth]}, {"all": [truth, number]}]}) == [1]


def test_a_restricted_statement_looks_only_at_the_scope(duck: duckdb.DuckDBPyConnection) -> None:
    load(duck, [person(events=[event()]), person(events=[event()]), person()], scope=[1, 2, 9])
    rule = parse_rule({"event": "E"})
    assert profile_numbers(duck, compile_rule(rule, NOW, "UTC", scope=True)) == [1]
    negated = parse_rule({"not": {"event": "E"}})
    assert profile_numbers(duck, compile_rule(negated, NOW, "UTC", scope=True)) == [2]


def test_a_tags_count_is_zero_for_those_without_and_a_sum_is_absent(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    load(duck, [person(events=[event(p=2.5), event(p=0.5)._replace(message_id="n")]), person()])
    assert tag_values(duck, parse_aggregate({"event": "E"}), NOW) == {0: 2, 1: 0}
    total = parse_aggregate({"event": "E", "aggregate": {"fn": "sum", "property": "p"}})
    assert tag_values(duck, total, NOW) == {0: 3}
    kinds = parse_aggregate({"event": "E", "aggregate": {"fn": "count_distinct", "property": "p"}})
    assert tag_values(duck, kinds, NOW) == {0: 2, 1: 0}
