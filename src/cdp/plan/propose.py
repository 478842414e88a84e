"""A plan from what was observed. Pure: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdp.plan.observed import (
    LONGEST_NAME,
    EventKey,
    ObservedEvent,
    ObservedProperty,
    merge_sources,
    share_of,
)
from cdp.plan.paths import ELEMENT, split_path
from cdp.plan.plan import MOST_EVENTS, Document

REQUIRED_FROM = 10
"""Events from which on a property that was in all of them is proposed as required."""

_SCHEMA = {"identify": "traits", "group": "group_traits", "page": "page", "screen": "screen"}
_ORDER = ("string", "integer", "number", "boolean", "object", "array", "null")


def propose_plan(
    observed: Mapping[EventKey, ObservedEvent], base: Document, *, required_from: int
) -> Document:
    """Return ``base`` with everything observed that it does not plan yet, under its version.

    A property is required when it was in every one of at least ``required_from`` events.
    """
    events = dict(base.get("events", {}))
    schemas: Document = {}
    seen = merge_sources(observed)
    for key in sorted(seen):
        schema = propose_schema(seen[key], required_from=required_from)
        name = _SCHEMA.get(key.type)
        if key.type == "track" and 0 < len(key.event) <= LONGEST_NAME:
            if key.event not in events and len(events) < MOST_EVENTS:
                events[key.event] = {"enabled": True, "properties": schema}
        elif name is not None and name not in base and schema["properties"]:
            schemas[name] = schema
    return {**base, "events": events, **schemas}


def propose_schema(event: ObservedEvent, *, required_from: int) -> dict[str, Any]:
    """Return a schema that takes what was observed."""
    root = _Node()
    for path, found in event.properties.items():
        node = root
        for step in split_path(path):
            node = node.children.setdefault(step, _Node())
        node.found, node.share = found, share_of(event, found)
    return _write_object(root, event.read, required_from)


class _Node:
    def __init__(self) -> None:
        self.found = ObservedProperty()
        self.share = 0.0
        self.children: dict[str, _Node] = {}


def _write(node: _Node, required_from: int) -> dict[str, Any]:
    kinds = {kind for kind, number in node.found.types.items() if number}
    if "number" in kinds:
        kinds.discard("integer")
    schema: dict[str, Any] = {}
    named = [kind for kind in _ORDER if kind in kinds]
    if named:
        schema["type"] = named[0] if len(named) == 1 else named
    members = {name: child for name, child in node.children.items() if name != ELEMENT}
    if "object" in kinds and members:
        amount = node.found.types["object"]
        inner = _write_object(node, amount, required_from)
        schema |= {name: value for name, value in inner.items() if name != "type"}
    if "array" in kinds and ELEMENT in node.children:
        schema["items"] = _write(node.children[ELEMENT], required_from)
    return schema


def _write_object(node: _Node, amount: int, required_from: int) -> dict[str, Any]:
    members = {name: child for name, child in sorted(node.children.items()) if name != ELEMENT}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _write(child, required_from) for name, child in members.items()},
    }
    required = [name for name, child in members.items() if child.share == 1.0]
    if required and amount >= required_from:
        schema["required"] = required
    return schema
