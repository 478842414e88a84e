"""Transition rules of a tag: how long a new tier must hold before the tag moves to it. Pure.

``{"order": ["low", "middle", "high"], "field": "tier", "up": {"hold": "7d"}, "down": {…}}``: a
person above (below) the tier of their tag moves up (down) to the highest (lowest) tier that they
have not been below (above) for the whole time. Without a hold the move is immediate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cdp.segments.builtins.registry import find_kind
from cdp.segments.parse_values import below, mistake

MOST_LEVELS = 100
_LONGEST = timedelta(days=3660)
_HOLD = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_KEYS = ("order", "field", "up", "down")
_FORMS = ("cases", "builtin", "sql")
# The field of a built-in's value that is its tier.
_FIELDS = {
    "value_tier": "tier", "lifecycle": "stage", "rfm": "group", "health": "band",
    "churn_risk": "band", "engagement": "band",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Transitions:
    """How a tag moves between its levels."""

    order: tuple[str, ...]
    """The levels as JSON text, the lowest first."""
    field: str | None
    """Where in an object the level is; ``None``: the value is the level."""
    up: timedelta | None
    down: timedelta | None
    """How long a level must have held; ``None``: not at all."""


def without_transitions(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition without its transition rules."""
    return {name: value for name, value in document.items() if name != "transitions"}


def read_transitions(document: Any, path: str = "/definition") -> Transitions | None:
    """Read the transition rules of a definition that was posted at ``path``, if it has some.

    Raises ``Unprocessable`` at the mistake.
    """
    if not isinstance(document, dict) or document.get("transitions") is None:
        return None
    path = below(path, "transitions")
    rules = document["transitions"]
    if not any(form in document for form in _FORMS):
        raise mistake("unknown_key", f"transitions belong to {', '.join(_FORMS)}", path)
    if not isinstance(rules, dict):
        raise mistake("bad_value", "transitions are an object", path)
    for name in rules:
        if name not in _KEYS:
            raise mistake("unknown_key", f"transitions have {', '.join(_KEYS)}", path)
    return Transitions(
        _read_order(rules, document, path),
        _read_field(rules, document, path),
        _read_hold(rules, "up", path),
        _read_hold(rules, "down", path),
    )


def require_fitting(transitions: Transitions, document: Mapping[str, Any], type: str) -> None:
    """Raise ``Unprocessable`` when the rules do not fit values of ``type`` or the known levels."""
    path = "/definition/transitions"
    if type in ("list", "boolean", "time"):
        raise mistake("wrong_type", f"a {type} has no tiers to move between", path)
    if (type == "object") != (transitions.field is not None):
        message = "name the field of the object that is the tier"
        if type != "object":
            message = f"a {type} has no fields"
        raise mistake("bad_value", message, below(path, "field"))
    known = _list_levels(document, transitions.field)
    for index, level in enumerate(transitions.order):
        if known is not None and json.loads(level) not in known:
            place = below(below(path, "order"), index)
            raise mistake("unknown_level", f"the tag never has the value {level}", place)


def find_level(value: Any, field: str | None) -> Any:
    """Return the level in a value of a tag; ``None`` when there is none."""
    if field is None:
        return value
    return value.get(field) if isinstance(value, dict) else None


def find_field(document: Any) -> str | None:
    """Return the field by which values of a tag are told apart in lists of moves, if there is."""
    rules = document.get("transitions") if isinstance(document, dict) else None
    named = rules.get("field") if isinstance(rules, dict) else None
    return str(named) if named else _find_own_field(document)


def _find_own_field(document: Any) -> str | None:
    kind = find_kind(document)
    return None if kind is None else _FIELDS.get(kind.name)


def _read_order(rules: Mapping[str, Any], document: Mapping[str, Any], path: str) -> Any:
    place = below(path, "order")
    order = rules.get("order")
    if order is None:
        order = _list_tiers(document)
        if order is None:
            raise mistake("missing_part", "order lists the tiers, the lowest first", place)
    if not isinstance(order, list) or not 2 <= len(order) <= MOST_LEVELS:
        raise mistake("bad_value", f"order is a list of 2 to {MOST_LEVELS} tiers", place)
    for index, level in enumerate(order):
        if isinstance(level, bool) or not isinstance(level, (str, int, float)):
            raise mistake("bad_value", "a tier is a text or a number", below(place, index))
        if level in order[:index]:
            raise mistake("bad_value", f"{level!r} is listed twice", below(place, index))
    return tuple(json.dumps(level, ensure_ascii=False) for level in order)


def _read_field(rules: Mapping[str, Any], document: Mapping[str, Any], path: str) -> str | None:
    field = rules.get("field")
    if field is None:
        return _find_own_field(document)
    if not isinstance(field, str) or not field:
        raise mistake(
            "bad_value", "field is the name of a field of the value", below(path, "field")
        )
    return field


def _read_hold(rules: Mapping[str, Any], direction: str, path: str) -> timedelta | None:
    rule = rules.get(direction)
    if rule is None:
        return None
    place = below(path, direction)
    if not isinstance(rule, dict) or set(rule) - {"hold"}:
        raise mistake("bad_value", f'{direction} is {{"hold": "7d"}}', place)
    text = rule.get("hold")
    if text is None:
        return None
    match = _HOLD.fullmatch(text) if isinstance(text, str) else None
    hold = int(match[1]) * _UNITS[match[2]] if match and int(match[1]) < 10**9 else None
    if hold is None or hold > _LONGEST:
        message = "a hold is a duration in s, m, h, d or w, such as 7d, of up to ten years"
        raise mistake("bad_value", message, below(place, "hold"))
    return hold or None


def _list_tiers(document: Mapping[str, Any]) -> list[str] | None:
    """Return the tiers of ``value_tier``, which are written from the highest down."""
    if document.get("builtin") != "value_tier":
        return None
    tiers = (document.get("settings") or {}).get("tiers")
    if tiers is None:
        from cdp.segments.builtins.value_tier import DEFAULT_TIERS

        return [tier.name for tier in reversed(DEFAULT_TIERS)]
    return [tier["name"] for tier in reversed(tiers)]


def _list_levels(document: Mapping[str, Any], field: str | None) -> Sequence[Any] | None:
    """Return every level that a tag can have; ``None`` when nobody knows."""
    if "cases" in document:
        values = [case["then"] for case in document["cases"]] + [document.get("else")]
        return [find_level(value, field) for value in values]
    settings = document.get("settings") or {}
    if document.get("builtin") == "value_tier":
        return _list_tiers(document)
    if document.get("builtin") == "lifecycle" and settings.get("stages"):
        named = [stage["name"] for stage in settings["stages"]]
        return [*named, settings.get("else", "other")]
    return None
