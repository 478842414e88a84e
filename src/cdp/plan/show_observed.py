"""What was observed, as callers read it: with examples, personal ones masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cdp.access.masking import mask_properties, mask_traits
from cdp.plan.observed import (
    MOST_EXAMPLES,
    EventKey,
    ObservedEvent,
    ObservedProperty,
    Place,
    share_of,
)
from cdp.plan.observed_engine import Duck, Row, read_events
from cdp.plan.paths import find_leaf, read_path
from cdp.plan.plan import Document
from cdp.plan.schema import find_named
from cdp.runtime.clock import format_time

_LONGEST_EXAMPLE = 100
_SCHEMA = {"identify": "traits", "group": "group_traits", "page": "page", "screen": "screen"}


def show_observed(
    duck: Duck,
    observed: Mapping[EventKey, ObservedEvent],
    *,
    sees_personal: bool,
    plan: Document | None = None,
    sources: Mapping[EventKey, Iterable[str]] | None = None,
) -> list[dict[str, Any]]:
    """Return a row per event. ``plan`` is what is planned for it, if there is a plan.

    ``sources`` tells which sources stand behind a key that has none.
    """
    places = {
        place
        for event in observed.values()
        for found in event.properties.values()
        for place in found.examples
    }
    rows = read_events(duck, places)
    if not sees_personal:
        rows = {place: _mask(row) for place, row in rows.items()}
    shown = []
    for key, event in sorted(observed.items()):
        is_planned, named = _look_up(key, plan)
        behind = sources.get(key, ()) if sources is not None else (key.source_id,)
        shown.append(
            {
                "type": key.type,
                "event": key.event or None,
                "sources": sorted(one for one in behind if one),
                "planned": is_planned,
                "count": event.count,
                "read": event.read,
                "first_seen": format_time(event.first_seen) if event.first_seen else None,
                "last_seen": format_time(event.last_seen) if event.last_seen else None,
                "findings": {name: number for name, number in event.findings.items() if number},
                "truncated": event.is_truncated,
                "properties": [
                    _show_property(path, found, event, rows, named)
                    for path, found in sorted(event.properties.items())
                ],
            }
        )
    return shown


def _show_property(
    path: str,
    found: ObservedProperty,
    event: ObservedEvent,
    rows: Mapping[Place, Row],
    named: frozenset[str] | None,
) -> dict[str, Any]:
    is_top = path.count("/") == 1
    name = path[1:].replace("~1", "/").replace("~0", "~")
    return {
        "path": path,
        "types": dict(found.types.most_common()),
        "count": found.count,
        "share": round(share_of(event, found), 4),
        "sampled": bool(found.within),
        "planned": name in named if named is not None and is_top else None,
        "examples": _list_examples(path, found, rows),
    }


def _list_examples(path: str, found: ObservedProperty, rows: Mapping[Place, Row]) -> list[Any]:
    examples: list[Any] = []
    for place in found.examples:
        leaf = find_leaf(read_path(rows[place]["properties"], path)) if place in rows else None
        if isinstance(leaf, str) and len(leaf) > _LONGEST_EXAMPLE:
            leaf = f"{leaf[: _LONGEST_EXAMPLE - 1]}…"
        if leaf is not None and leaf not in examples:
            examples.append(leaf)
    return examples[:MOST_EXAMPLES]


def _mask(row: Row) -> Row:
    properties, kind = row["properties"], row["type"]
    if not isinstance(properties, dict):
        return row
    if kind in ("identify", "group"):
        return {**row, "properties": mask_traits(properties)}
    return {**row, "properties": mask_properties(properties, call=kind)}


def _look_up(key: EventKey, plan: Document | None) -> tuple[bool | None, frozenset[str] | None]:
    """Return whether an event is planned and the properties that the plan names, if it does."""
    if plan is None:
        return None, None
    if key.type == "track":
        event = plan["events"].get(key.event)
        if event is None or not event.get("enabled", True):
            return False, None
        schema = event.get("properties")
    else:
        schema = plan.get(_SCHEMA.get(key.type, ""))
        if schema is None:
            return None, None
    return True, find_named(schema) if schema is not None else None
