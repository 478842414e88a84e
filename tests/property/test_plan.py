"""The plan at the door, whatever schema and whatever event: omit mends, and marks lose nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdp.ingest.check_line import check_line
from cdp.plan.check import PlanMode, make_check, prepare_plan
from cdp.plan.schema import compile_schema
from cdp.plan.violations import remove_violations

NAMES = ["a", "b", "c", "d/~"]
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.sampled_from(["", "x", "yy"])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
KINDS = ["string", "integer", "number", "boolean", "null", "array", "object"]
leaves = st.one_of(
    st.builds(lambda kind: {"type": kind}, st.sampled_from(KINDS)),
    st.builds(lambda n: {"type": "array", "maxItems": n}, st.integers(0, 2)),
    st.builds(lambda n: {"type": "array", "minItems": n}, st.integers(0, 3)),
    st.builds(lambda value: {"enum": [value]}, scalars),
    st.just({"uniqueItems": True}),
    st.just({}),
)


def make_object(properties: Any, required: Any, others: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": sorted(required)}
    return schema if others is None else {**schema, "additionalProperties": others}


schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(
            make_object,
            st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            st.sets(st.sampled_from(NAMES), max_size=1),
            st.one_of(st.none(), st.booleans()),
        ),
        st.builds(lambda any_of: {"anyOf": any_of}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=8,
)
bodies = st.builds(
    make_object,
    st.dictionaries(st.sampled_from(NAMES), schemas, max_size=3),
    st.sets(st.sampled_from(NAMES), max_size=1),
    st.one_of(st.none(), st.booleans()),
)


def run(mode: PlanMode, schema: dict[str, Any], line: bytes) -> dict[str, Any]:
    document = {"version": 1, "events": {"E": {"properties": schema}}}
    check = make_check(prepare_plan(document, "src"), mode)
    assert check is not None
    kept: dict[str, Any] = json.loads(check_line(line, check), parse_float=Decimal)
    return kept


def write(properties: Any) -> bytes:
    event = {"type": "track", "event": "E", "userId": "u", "properties": properties}
    return json.dumps({**event, "context": {"cdp": {"flags": ["earlier"]}}}).encode()


def is_part(part: Any, whole: Any) -> bool:
    """Whether ``part`` is ``whole`` with some members or elements gone."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(part[key], whole[key]) for key in part)
    if isinstance(part, list) and isinstance(whole, list):
        rest = iter(whole)
        return all(any(is_part(one, other) for other in rest) for one in part)
    return bool(part == whole)


@given(schema=bodies, properties=objects)
def test_after_omit_the_plan_holds_but_for_what_is_missing(
    schema: dict[str, Any], properties: Any
) -> None:
    line = write(properties)
    kept = run("omit", schema, line)["properties"]
    assert is_part(kept, json.loads(line, parse_float=Decimal)["properties"])
    as_floats = json.loads(json.dumps(kept, default=float))
    errors = list(compile_schema(schema).iter_errors(as_floats))
    assert all(error.kind.name == "required" and not error.instance_path for error in errors)
    if "additionalProperties" not in schema and schema["properties"]:
        assert set(kept) <= set(schema["properties"]) | set(schema["required"])


@given(schema=bodies, properties=objects)
def test_the_places_told_lead_from_what_was_sent_to_what_is_kept(
    schema: dict[str, Any], properties: Any
) -> None:
    """Removing by the bytes what was removed from the values gives the same."""
    line = write(properties)
    value = json.loads(json.dumps(properties))
    remove_violations(compile_schema({**schema, "additionalProperties": True}), value)
    kept = run("omit", {**schema, "additionalProperties": True}, line)["properties"]
    assert json.loads(json.dumps(kept, default=float)) == value


@given(schema=bodies, properties=objects)
def test_a_marked_event_has_lost_nothing(schema: dict[str, Any], properties: Any) -> None:
    line = write(properties)
    kept = run("flag", schema, line)
    sent = json.loads(line, parse_float=Decimal)
    mark = kept["context"]["cdp"]
    assert "earlier" in mark["flags"]
    is_marked = not compile_schema(schema).is_valid(properties)
    assert ("plan_violation" in mark["flags"]) == is_marked
    del kept["context"]["cdp"], sent["context"]["cdp"]
    assert kept == sent
