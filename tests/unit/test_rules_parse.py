"""Rule documents that are refused, each with the place of the mistake; and what is read."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.errors import Unprocessable
from cdp.segments.parse import parse_aggregate, parse_rule
from cdp.segments.paths import read_path, write_path
from cdp.segments.rules import HasIdentifier, Tag

EQ = {"op": "eq", "value": 1}
EVENT = {"event": "E"}


MISTAKES: list[tuple[Any, str, str]] = [
    ({}, "unknown_form", "/rule"),
    ({"frobnicate": 1}, "unknown_form", "/rule"),
    ([], "bad_value", "/rule"),
    ({"all": [], "any": []}, "two_forms", "/rule"),
    ({**EVENT, "trait": "x"}, "two_forms", "/rule"),
    ({"all": {}}, "bad_value", "/rule/all"),
    ({"all": [{"any": [{}]}]}, "unknown_form", "/rule/all/0/any/0"),
    ({"trait": "x", "op": "is"}, "unknown_op", "/rule/op"),
    ({"all": [{"all": []}, {"trait": "x", "op": "?"}]}, "unknown_op", "/rule/all/1/op"),
    ({"trait": "x"}, "missing_part", "/rule/op"),
    ({"trait": "x", "op": "eq"}, "missing_part", "/rule/value"),
    ({"trait": "", **EQ}, "bad_value", "/rule/trait"),
    ({"trait": "x", **EQ, "values": 1}, "unknown_key", "/rule/values"),
    ({"trait": "x", **EQ, "a/b~c": 1}, "unknown_key", "/rule/a~1b~0c"),
    ({"trait": "x", "op": "eq", "value": None}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "eq", "value": [1]}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "gt", "value": float("inf")}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "exists", "value": True}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "in", "value": "a"}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "in", "value": ["a", None]}, "bad_value", "/rule/value/1"),
    ({"trait": "x", "op": "between", "value": [1]}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "between", "value": [1, "2"]}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "before", "value": "soon"}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "within_last", "value": "30"}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "within_last", "value": "1s"}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "contains", "value": 1}, "bad_value", "/rule/value"),
    ({"trait": "x", "op": "matches", "value": "(?=a)"}, "bad_pattern", "/rule/value"),
    ({"segment": "gone"}, "unknown_segment", "/rule/segment"),
    ({"tag": "gone", "op": "exists"}, "unknown_tag", "/rule/tag"),
    ({"consent": "ads", "op": "eq"}, "unknown_op", "/rule/op"),
    ({**EVENT, "where": {}}, "bad_value", "/rule/where"),
    ({**EVENT, "where": [{"property": "x"}]}, "missing_part", "/rule/where/0/op"),
    ({**EVENT, "where": [{"trait": "x", **EQ}]}, "unknown_key", "/rule/where/0/trait"),
    ({**EVENT, "count": 1}, "bad_value", "/rule/count"),
    ({**EVENT, "count": {"op": "in", "value": [1]}}, "unknown_op", "/rule/count/op"),
    ({**EVENT, "count": {"op": "eq", "value": "1"}}, "bad_value", "/rule/count/value"),
    ({**EVENT, **EQ}, "unknown_key", "/rule/op"),
    ({**EVENT, "count": EQ, "aggregate": {"fn": "sum"}}, "two_forms", "/rule"),
    ({**EVENT, "aggregate": {"fn": "median"}, **EQ}, "unknown_fn", "/rule/aggregate/fn"),
    ({**EVENT, "aggregate": {"fn": "sum"}, **EQ}, "missing_part", "/rule/aggregate/property"),
    ({**EVENT, "aggregate": {"fn": "sum", "property": "x"}}, "missing_part", "/rule/op"),
    ({**EVENT, "within": {}}, "unknown_window", "/rule/within"),
    ({**EVENT, "within": {"last": "1d", "since": "2026-01-01"}}, "unknown_window",
     "/rule/within"),
    ({**EVENT, "within": {"last": "1 day"}}, "bad_value", "/rule/within/last"),
    ({**EVENT, "within": {"last": "99999999y"}}, "bad_value", "/rule/within/last"),
    ({**EVENT, "within": {"since": "x"}}, "bad_value", "/rule/within/since"),
    ({**EVENT, "within": {"between": ["2026-01-01", 1]}}, "bad_value",
     "/rule/within/between/1"),
    ({**EVENT, "within": {"calendar": "decade"}}, "unknown_unit", "/rule/within/calendar"),
    ({**EVENT, "within": {"calendar": "day", "tz": "Mars"}}, "unknown_zone",
     "/rule/within/tz"),
    ({**EVENT, "within": {"calendar": "day", "offset": 0.5}}, "bad_value",
     "/rule/within/offset"),
    ({"sequence": []}, "bad_value", "/rule/sequence"),
    ({"sequence": [{**EVENT, "after": {"max": "1d"}}]}, "unknown_key",
     "/rule/sequence/0/after"),
    ({"sequence": [EVENT, {**EVENT, "after": {"max": 1}}]}, "bad_value",
     "/rule/sequence/1/after/max"),
    ({"account": {}}, "unknown_form", "/rule/account"),
    ({"account": {"any": [{"segment": "vip"}]}}, "unknown_form", "/rule/account/any/0"),
    ({"account": {"not": EVENT}}, "unknown_form", "/rule/account/not"),
    ({"account": {"account": {"all": []}}}, "unknown_form", "/rule/account"),
    ({"account": {"trait": "plan", "op": "is", "value": 1}}, "unknown_op", "/rule/account/op"),
    ({"account": {"all": []}, "role": "buyer"}, "unknown_key", "/rule/role"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "code", "path"), MISTAKES)
def test_24_a_mistake_is_refused_with_its_place(document: Any, code: str, path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse_rule(document, known_segments={"vip"}, known_tags={"rfm"})
    assert (refused.value.code, refused.value.details["path"]) == (code, path)


def nested(depth: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"all": []}
    for _ in range(depth - 1):
        rule = {"not": rule}
    return rule


def test_31_a_rule_is_32_deep_at_most() -> None:
    parse_rule(nested(32))
    with pytest.raises(Unprocessable) as refused:
        parse_rule(nested(33))
    assert refused.value.code == "rule_too_deep"


def test_31_a_rule_takes_one_megabyte_at_most() -> None:
    parse_rule({"trait": "x", "op": "in", "value": ["y" * 90] * 10_000})
    with pytest.raises(Unprocessable) as refused:
        parse_rule({"trait": "x", "op": "eq", "value": "y" * 1024 * 1024})
    assert refused.value.code == "rule_too_large"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        (r"a\.b.c", ("a.b", "c")),
        (r"a\\.b", ("a\\", "b")),
        (r"a\nb", (r"a\nb",)),
        ("a..b", ("a", "", "b")),
    ],
)
def test_31_in_paths_a_backslash_escapes_dots_and_itself(text: str, names: tuple[str, ...]) -> None:
    assert read_path(text) == names
    assert read_path(write_path(names)) == names


def test_32_the_longest_existing_key_is_the_tag() -> None:
    tags = {"rfm", "rfm.group"}
    nested_field = parse_rule({"tag": "rfm.group.a", **EQ}, known_tags=tags)
    assert isinstance(nested_field, Tag)
    assert (nested_field.key, nested_field.path) == ("rfm.group", ("a",))
    field = parse_rule({"tag": "rfm.r", **EQ}, known_tags=tags)
    assert isinstance(field, Tag)
    assert (field.key, field.path) == ("rfm", ("r",))


def test_32_identifiers_in_a_rule_are_normalised_as_on_the_wire() -> None:
    def normalise(kind: str, value: Any) -> str | None:
        return value.lower() if kind == "email" else value if kind == "user_id" else None

    def operand(kind: str, op: str, value: Any) -> Any:
        rule = parse_rule({"identifier": kind, "op": op, "value": value}, normalise=normalise)
        assert isinstance(rule, HasIdentifier)
        return rule.comparison.operand

    assert operand("email", "eq", "Ann@X.com") == "ann@x.com"
    assert operand("email", "in", ["A@X.com"]) == ("a@x.com",)
    assert operand("email", "starts_with", "Ann") == "Ann"
    assert operand("user_id", "eq", 9007199254740993) == "9007199254740993"
    assert operand("phone", "eq", "no phone") == "no phone"


def test_a_tags_aggregate_needs_no_comparison_and_refuses_one() -> None:
    parse_aggregate({"event": "E", "aggregate": {"fn": "sum", "property": "total"}})
    parse_aggregate({"event": "E", "within": {"last": "30d"}})
    with pytest.raises(Unprocessable) as refused:
        parse_aggregate({"event": "E", **EQ})
    assert refused.value.details["path"] == "/definition/aggregate/op"
