"""Rules with many figures of one kind, computed in one look, mean what each means alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from cdp.segments.compile import compile_rule
from cdp.segments.evaluate import evaluate
from cdp.segments.parse import parse_rule
from cdp.segments.rules import FUNCTIONS
from tests.support.random_rules import Dice
from tests.support.rule_world import connect, facts, load, members, members_of_copies

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
EDGES = [NOW, NOW - timedelta(days=1), NOW - timedelta(days=7), NOW - timedelta(days=31)]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.mark.parametrize("function", FUNCTIONS)
def test_many_figures_together_select_whom_each_alone_selects(
    duck: duckdb.DuckDBPyConnection, function: str
) -> None:
    dice = Dice(len(function), NOW, EDGES)
    found = [dice.person() for _ in range(24)]
    scope = list(range(0, 24, 3))
    load(duck, found, scope)
    told = [facts(someone) for someone in found]
    for form, holds_for in (("all", True), ("any", False)):
        for one in told[:1]:
            leaves = [_figure(dice, function) for _ in range(50)]
            # So that not everybody, or nobody, is left.
            document = {
                form: [
                    leaf if evaluate(parse_rule(leaf), one, NOW) == holds_for else {"not": leaf}
                    for leaf in leaves
                ]
            }
            rule = parse_rule(document)
            expected = [n for n, someone in enumerate(told) if evaluate(rule, someone, NOW)]
            assert members(duck, rule, NOW) == expected, document
            inside = [number for number in expected if number in scope]
            assert members_of_copies(duck, rule, NOW, "UTC") == inside, document


def test_leaves_that_say_the_same_are_computed_once() -> None:
    leaf = {"event": "E", "aggregate": {"fn": "sum", "property": "p"}, "op": "gt", "value": 1}
    once = compile_rule(parse_rule({"all": [leaf]}), NOW, "UTC")
    many = compile_rule(parse_rule({"all": [leaf] * 1000}), NOW, "UTC")
    assert len(many.sql) < 2 * len(once.sql)


def test_what_many_figures_cost_to_plan_does_not_grow_by_a_table_each() -> None:
    def write(number: int) -> dict[str, Any]:
        aggregate = {"fn": "sum", "property": "p"}
        return {"event": "E", "aggregate": aggregate, "op": "gt", "value": number}

    rule = parse_rule({"any": [write(number) for number in range(480)]})
    assert compile_rule(rule, NOW, "UTC").sql.count("core.events") <= 10


def _figure(dice: Dice, function: str) -> dict[str, Any]:
    aggregate = {"fn": function}
    if not function.startswith("days"):
        aggregate["property"] = dice.one("p", "q", "p.p", "a\\.b")
    return {**dice.events(), "aggregate": aggregate, **dice.comparison()}
