"""What changes between two plans, in words, and what of it breaks senders of today."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.plan.diff import diff_plans
from cdp.plan.plan import check_document

OLD = {
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "string"},
        "total": {"type": "number"},
        "kind": {"enum": ["a", "b"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {}}}},
    },
}


def plan(schema: Any) -> dict[str, Any]:
    return check_document({"events": {"E": {"properties": schema}}})


def change(**properties: Any) -> dict[str, Any]:
    merged = {**OLD["properties"], **properties}  # type: ignore[dict-item]
    kept = {name: value for name, value in merged.items() if value is not None}
    return {**OLD, "properties": kept}


LINES = {"type": "array", "items": {"type": "object", "properties": {"sku": {}, "price": {}}}}


@pytest.mark.parametrize(
    ("new", "what", "message", "breaking"),
    [
        (change(coupon={"type": "string"}), "E.coupon", "the optional property", False),
        (change(total=None), "E.total", "planned no longer", True),
        (change(total={"type": ["number", "string"]}), "E.total", "type: number →", False),
        (change(total={"type": "integer"}), "E.total", "type: number → integer", True),
        (change(total={"type": "number", "minimum": 0}), "E.total", "minimum is 0 now", True),
        (change(total={"type": "number", "title": "T"}), "E.total", "the title", False),
        (change(kind={"enum": ["a", "b", "c"]}), "E.kind", "also c", False),
        (change(kind={"enum": ["a"]}), "E.kind", "no longer b", True),
        (change(lines=LINES), "E.lines[].price", "the optional property", False),
        ({**OLD, "required": []}, "E.order_id", "optional now", False),
        ({**OLD, "required": ["order_id", "total"]}, "E.total", "required now", True),
        ({**OLD, "additionalProperties": False}, "E", "additionalProperties is false", False),
        ({**OLD, "required": ["order_id", "x"]}, "E.x", "required now", True),
    ],
)
def test_a_change_of_a_schema_is_told(new: Any, what: str, message: str, breaking: bool) -> None:
    (found,) = diff_plans(plan(OLD), plan(new))
    assert found.what == what
    assert message in found.message
    assert found.breaking == breaking
    assert found.path.startswith("/events/E/properties")


def test_a_new_required_property_is_one_breaking_change() -> None:
    new = {**change(email={"type": "string"}), "required": ["order_id", "email"]}
    (found,) = diff_plans(plan(OLD), plan(new))
    assert (found.what, found.breaking) == ("E.email", True)
    assert "required" in found.message


def test_events_come_go_and_are_disabled() -> None:
    old = check_document({"events": {"A": {}, "B": {}, "C": {"enabled": False}}})
    new = check_document({"events": {"B": {"enabled": False}, "C": {}, "D": {}}})
    found = [(one.change, one.path, one.breaking) for one in diff_plans(old, new)]
    assert found == [
        ("removed", "/events/A", True),
        ("changed", "/events/B/enabled", True),
        ("changed", "/events/C/enabled", False),
        ("added", "/events/D", False),
    ]


def test_traits_and_the_parts_of_sources_are_compared_too() -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    old = check_document({"sources": {"s": {"events": {"A": {}}}}})
    new = check_document({"traits": schema, "sources": {"s": {"traits": schema}}})
    found = {one.path: one.breaking for one in diff_plans(old, new)}
    assert found == {"/traits": True, "/sources/s/events/A": True, "/sources/s/traits": True}


def test_what_cannot_be_shown_to_be_safe_is_breaking() -> None:
    """Every keyword apart is no narrower; together they are."""
    old = {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"required": ["b"]}]}
    new = {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["b"]}]}
    found = diff_plans(plan(old), plan(new))
    assert [one.breaking for one in found] == [True]


def test_the_same_plan_under_another_version_does_not_differ() -> None:
    assert diff_plans({**plan(OLD), "version": 1}, {**plan(OLD), "version": 2}) == []


def test_a_rewritten_schema_that_takes_the_same_breaks_nothing() -> None:
    new = {
        "$defs": {"text": {"type": "string"}},
        **change(order_id={"$ref": "#/$defs/text"}),
    }
    found = diff_plans(plan(OLD), plan(new))
    assert found
    assert not any(one.breaking for one in found)


def branch(number: int) -> dict[str, Any]:
    """A schema whose alternatives multiply: a proof about it would take minutes."""
    pair = [{"properties": {f"p{n}": {"type": "string"}}, "required": [f"p{n}"]} for n in range(99)]
    return {"allOf": [{"anyOf": pair[2 * n : 2 * n + 2]} for n in range(number)]}


def test_of_many_alternatives_nothing_is_proved_and_nothing_claimed() -> None:
    old = {**branch(40), "properties": {"z": {}}, "required": ["z"]}
    optional, unproved = diff_plans(plan(old), plan({**old, "required": []}))
    assert (optional.what, optional.breaking) == ("E.z", False)
    assert (unproved.what, unproved.breaking) == ("E", True)
    assert "cannot be shown" in unproved.message


def test_a_remark_breaks_nothing_whatever_the_schema() -> None:
    new = {**branch(40), "title": "T"}
    assert [one.breaking for one in diff_plans(plan(branch(40)), plan(new))] == [False]


def test_definitions_that_many_properties_share_do_not_hinder_a_proof() -> None:
    money = {"$defs": {"money": {"type": "number"}}, "type": "object"}
    old = {**money, "properties": {f"p{n}": {"$ref": "#/$defs/money"} for n in range(50)}}
    new = {**old, "properties": {**old["properties"], "extra": {}}}
    assert [one.breaking for one in diff_plans(plan(old), plan(new))] == [False]
