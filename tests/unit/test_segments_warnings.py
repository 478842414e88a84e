"""Which comparisons look mistaken, by the types of values seen so far."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.segments.parse import parse_rule
from cdp.segments.warnings import Place, ValueType, find_looks, find_mismatches

AGE, TOTAL = Place(None, "age"), Place("Order Completed", "total")
NUMBER: dict[Place, frozenset[ValueType]] = {
    AGE: frozenset({"number"}),
    TOTAL: frozenset({"number"}),
}


def warn(rule: Any, seen: dict[Place, frozenset[ValueType]] | None = None) -> list[str]:
    looks = find_looks([parse_rule(rule)])
    return [each["path"] for each in find_mismatches(looks, NUMBER if seen is None else seen)]


def total(op: str, value: Any) -> dict[str, Any]:
    condition = {"property": "total", "op": op, "value": value}
    return {"event": "Order Completed", "where": [condition]}


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"trait": "age", "op": "eq", "value": "42"}, "/rule"),
        ({"trait": "age", "op": "starts_with", "value": "4"}, "/rule"),
        ({"trait": "age", "op": "before", "value": "2026-01-01"}, "/rule"),
        ({"trait": "age", "op": "in", "value": ["1", True]}, "/rule"),
        ({"not": {"trait": "age", "op": "ne", "value": "42"}}, "/rule/not"),
        (total("gte", "100"), "/rule/where/0"),
        ({"sequence": [total("eq", True)]}, "/rule/sequence/0/where/0"),
    ],
)
def test_a_mismatch_is_warned_of_at_its_place(rule: Any, path: str) -> None:
    assert warn(rule) == [path]


@pytest.mark.parametrize(
    "rule",
    [
        {"trait": "age", "op": "gte", "value": 42},
        {"trait": "age", "op": "in", "value": ["1", 2]},
        {"trait": "age", "op": "exists"},
        {"trait": "age.of", "op": "eq", "value": "42"},
        {"trait": "unseen", "op": "eq", "value": "42"},
        total("between", [1, 2]),
        {"event": "Other", "where": total("eq", "1")["where"]},
    ],
)
def test_what_may_hold_is_not_warned_of(rule: Any) -> None:
    assert warn(rule) == []


def test_a_sum_of_text_is_warned_of() -> None:
    rule = {
        "event": "Order Completed", "aggregate": {"fn": "sum", "property": "total"},
        "op": "gte", "value": 1,
    }  # fmt: skip

    assert warn(rule, {TOTAL: frozenset({"text"})}) == ["/rule/aggregate"]
    assert warn(rule) == []


def test_a_list_may_hold_anything() -> None:
    rule = {"trait": "age", "op": "eq", "value": "42"}

    assert warn(rule, {AGE: frozenset({"list", "number"})}) == []
