"""Which documents are plans, and where the mistake lies in those that are none."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.errors import Unprocessable
from cdp.plan.plan import MOST_EVENTS, check_document


def event(schema: Any) -> dict[str, Any]:
    return {"events": {"A/b": {"properties": schema}}}


def chain(length: int) -> dict[str, Any]:
    """A schema that doubles with every definition."""
    definitions: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(length)
    }
    return {"$defs": {**definitions, f"d{length}": True}, "$ref": "#/$defs/d0"}


def nest(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": 0, "events": {}},
        {"version": 7, "description": "ours", "events": {"A": {}}},
        event({}),
        event({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}),
        event({"properties": {"$id": {"type": "string"}, "$ref": {"const": {"$ref": "x"}}}}),
        event(
            {"$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}}
        ),
        {"traits": {"properties": {"age": {"type": "integer"}}}, "page": {}},
        {"sources": {"src_1": {"events": {"A": None}, "traits": None}}},
        event(chain(8)),
    ],
)
def test_a_plan_is_taken(document: dict[str, Any]) -> None:
    checked = check_document(document)
    assert checked == {"version": 0, "events": {}, **document}


AT = "/events/A~1b/properties"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], ""),
        ({"event": {}}, "/event"),
        ({"version": "1"}, "/version"),
        ({"version": True}, "/version"),
        ({"version": -1}, "/version"),
        ({"description": 1}, "/description"),
        ({"events": []}, "/events"),
        ({"events": {"": {}}}, "/events/"),
        ({"events": {"A": None}}, "/events/A"),
        ({"events": {"A": {"enabled": "no"}}}, "/events/A/enabled"),
        ({"events": {"A": {"schema": {}}}}, "/events/A/schema"),
        ({"events": {str(n): {} for n in range(MOST_EVENTS + 1)}}, "/events"),
        ({"traits": None}, "/traits"),
        ({"sources": {"s": []}}, "/sources/s"),
        ({"sources": {"s": {"version": 1}}}, "/sources/s/version"),
        (event(True), AT),
        (event({"type": "objekt"}), f"{AT}/type"),
        (event({"properties": {"a": {"minimum": "1"}}}), f"{AT}/properties/a/minimum"),
        (event({"properties": {"a": {"pattern": "(?=a)"}}}), f"{AT}/properties/a/pattern"),
        (
            event({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}),
            f"{AT}/properties/a/pattern",
        ),
        (event({"patternProperties": {"(?!x)": {}}}), f"{AT}/patternProperties/(?!x)"),
        (event({"$ref": "https://example.com/s"}), f"{AT}/$ref"),
        (event({"$ref": "file:///etc/passwd"}), f"{AT}/$ref"),
        (event({"$ref": "#"}), f"{AT}/$ref"),
        (event({"$ref": "#/$defs/none"}), f"{AT}/$ref"),
        (event({"$defs": {"a": {"$ref": "#/$defs/a"}}}), f"{AT}/$defs/a/$ref"),
        (event({"items": {"$dynamicRef": "#x"}}), f"{AT}/items/$dynamicRef"),
        (event({"items": {"$id": "x"}}), f"{AT}/items/$id"),
        (event({"$schema": "http://json-schema.org/draft-07/schema#"}), f"{AT}/$schema"),
        (event({"enum": ["x" * 70_000]}), AT),
    ],
)
def test_what_is_no_plan_is_refused_with_the_place(document: Any, path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        check_document(document)
    assert refused.value.details["path"] == path
    assert refused.value.code == "invalid_plan"


@pytest.mark.parametrize("schema", [chain(20), nest(200), nest(5000)])
def test_a_schema_that_would_cost_too_much_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable):
        check_document(event(schema))


def test_a_plan_with_too_many_patterns_is_refused() -> None:
    schema = {"properties": {str(n): {"pattern": f"^{n}"} for n in range(501)}}
    with pytest.raises(Unprocessable):
        check_document(event(schema))
