"""The plan document: what is planned, for all sources and for each. Pure.

    {"version": 3,
     "events": {"Order Completed": {"description": "…", "enabled": true, "properties": {schema}}},
     "traits": {schema}, "group_traits": {schema}, "page": {schema}, "screen": {schema},
     "sources": {"src_1": {"events": {"Debug": null}, "traits": {schema}}}}

A source's own part counts instead of the general one, event by event; ``null`` takes an event, or
a schema, out of the plan for that source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cdp.errors import Unprocessable
from cdp.plan.schema import BadSchema, check_schema, count_patterns
from cdp.runtime.error_answers import make_pointer

Document = dict[str, Any]

SCHEMAS = ("traits", "group_traits", "page", "screen")
"""Members that are schemas: of identify and group traits, of page and screen properties."""

MOST_BYTES = 2 * 1024 * 1024
MOST_EVENTS = 2_000
MOST_PATTERNS = 500
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 2_000

_MEMBERS = frozenset({"version", "description", "events", "sources", *SCHEMAS})
_SOURCE_MEMBERS = frozenset({"events", *SCHEMAS})
_EVENT_MEMBERS = frozenset({"description", "enabled", "properties"})

EMPTY: Document = {"version": 0, "events": {}}
"""What holds before the first plan: nothing is planned, and nothing is checked."""


def check_document(document: Any, within: str = "") -> Document:
    """Return a document that a caller wrote, in their body at the JSON Pointer ``within``.

    Members left out are filled in. Raises ``Unprocessable`` with the place of the first mistake.
    """
    place = _Place(within)
    try:
        return _check_document(document, place)
    except RecursionError as error:
        raise place.fail("the plan is nested too deeply") from error


def plan_for(document: Document, source_id: str) -> Document:
    """Return what is planned for one source: the general part with the source's own over it."""
    own = document.get("sources", {}).get(source_id)
    general = {name: document[name] for name in ("events", *SCHEMAS) if name in document}
    if not own:
        return general
    merged = {**general, **own, "events": {**general["events"], **own.get("events", {})}}
    events = {name: event for name, event in merged.pop("events").items() if event is not None}
    return {"events": events} | {
        name: schema for name, schema in merged.items() if schema is not None
    }


def list_schemas(document: Document) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every schema of ``document`` with the steps to it."""
    for steps, part in [
        ((), document),
        *((("sources", name), part) for name, part in document.get("sources", {}).items()),
    ]:
        for name, event in part.get("events", {}).items():
            if event is not None and "properties" in event:
                yield (*steps, "events", name, "properties"), event["properties"]
        for name in SCHEMAS:
            if part.get(name) is not None:
                yield (*steps, name), part[name]


class _Place:
    """Where in the body a check looks."""

    def __init__(self, pointer: str) -> None:
        self._pointer = pointer

    def at(self, *steps: str | int) -> _Place:
        return _Place(self._pointer + make_pointer(steps))

    def fail(self, message: str) -> Unprocessable:
        return Unprocessable("invalid_plan", message, path=self._pointer)


def _check_document(document: Any, place: _Place) -> Document:
    document = _require_object(document, place)
    _refuse_others(document, _MEMBERS, place)
    if len(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")) > MOST_BYTES:
        raise place.fail(f"a plan has at most {MOST_BYTES} bytes")
    version = document.get("version", 0)
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise place.at("version").fail("the version is a whole number")
    _check_text(document, place)
    _check_part(document, place, may_be_null=False)
    sources = _require_object(document.get("sources", {}), place.at("sources"))
    for source_id, part in sources.items():
        inner = place.at("sources").at(source_id)
        _refuse_others(_require_object(part, inner), _SOURCE_MEMBERS, inner)
        _check_part(part, inner, may_be_null=True)
    _check_amounts(document, place)
    return {"version": version, "events": {}, **document}


def _check_part(part: Document, place: _Place, *, may_be_null: bool) -> None:
    events = _require_object(part.get("events", {}), place.at("events"))
    for name, event in events.items():
        inner = place.at("events").at(name)
        if not 1 <= len(name) <= LONGEST_NAME:
            raise inner.fail(f"an event's name has 1 to {LONGEST_NAME} characters")
        if event is None and may_be_null:
            continue
        _refuse_others(_require_object(event, inner), _EVENT_MEMBERS, inner)
        _check_text(event, inner)
        if not isinstance(event.get("enabled", True), bool):
            raise inner.at("enabled").fail("`enabled` is true or false")
        if "properties" in event:
            _check_schema(event["properties"], inner.at("properties"))
    for name in SCHEMAS:
        if name in part and not (may_be_null and part[name] is None):
            _check_schema(part[name], place.at(name))


def _check_schema(schema: Any, place: _Place) -> None:
    try:
        check_schema(schema)
    except BadSchema as error:
        raise place.at(*error.steps).fail(str(error)) from error


def _check_text(within: Document, place: _Place) -> None:
    text = within.get("description", "")
    if not isinstance(text, str) or len(text) > LONGEST_DESCRIPTION:
        raise place.at("description").fail(
            f"a description is text of at most {LONGEST_DESCRIPTION} characters"
        )


def _check_amounts(document: Document, place: _Place) -> None:
    parts = [document, *document.get("sources", {}).values()]
    if sum(len(part.get("events", {})) for part in parts) > MOST_EVENTS:
        raise place.at("events").fail(f"a plan has at most {MOST_EVENTS} events")
    if sum(count_patterns(schema) for _, schema in list_schemas(document)) > MOST_PATTERNS:
        raise place.fail(f"a plan has at most {MOST_PATTERNS} regular expressions")


def _require_object(value: Any, place: _Place) -> Document:
    if not isinstance(value, dict):
        raise place.fail("this is a JSON object")
    return value


def _refuse_others(within: Document, known: frozenset[str], place: _Place) -> None:
    others = sorted(within.keys() - known)
    if others:
        raise place.at(others[0]).fail(f"unknown; known are {', '.join(sorted(known))}")
