"""Warnings about a rule that can be evaluated but looks mistaken: types that never meet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from cdp.segments.rules import (
    NUMBER_FUNCTIONS,
    TEXT_OPS,
    Comparison,
    EventCount,
    EventFigure,
    Events,
    Orders,
    Rule,
    Sequence,
    Trait,
    walk,
)

ValueType = Literal["number", "text", "boolean", "object", "list"]

_TIME_OPS = frozenset({"before", "after", "within_last", "not_within_last"})
_ORDER_OPS = frozenset({"gt", "gte", "lt", "lte", "between"})


class Place(NamedTuple):
    """A trait (without an event) or a property of an event, by its first name."""

    event: str | None
    name: str


class Look(NamedTuple):
    """A comparison of what stands at ``place``, written at the JSON Pointer ``path``."""

    place: Place
    wanted: frozenset[ValueType]
    path: str


def find_looks(rules: Iterable[Rule]) -> list[Look]:
    """Return every comparison with a trait or a property, with the types that can satisfy it.

    Paths into objects are left out: what lies in them is not kept track of.
    """
    return [look for rule in rules for node in walk(rule) for look in _look(node)]


def find_mismatches(
    looks: Iterable[Look], seen: Mapping[Place, frozenset[ValueType]]
) -> list[dict[str, Any]]:
    """Return a warning for each comparison that no value seen so far can satisfy."""
    return [
        {
            "code": "type_mismatch",
            "path": look.path,
            "message": (
                f"{look.place.name!r} has only been {_list(seen[look.place])}; this compares with "
                f"{_list(look.wanted)} and never holds for it"
            ),
        }
        for look in looks
        if seen.get(look.place)
        and "list" not in seen[look.place]
        and look.wanted.isdisjoint(seen[look.place])
    ]


def _look(node: Rule) -> Iterator[Look]:
    match node:
        case Trait(path=(name,), comparison=comparison, origin=origin):
            yield from _compare(Place(None, name), comparison, origin.pointer)
        case EventCount(events=events):
            yield from _look_at_events(events)
        case EventFigure(events=events, function=function, path=path, origin=origin):
            yield from _look_at_events(events)
            if isinstance(events, Events) and function in NUMBER_FUNCTIONS and len(path) == 1:
                place = Place(events.name, path[0])
                yield Look(place, frozenset({"number"}), f"{origin.pointer}/aggregate")
        case Sequence(steps=steps):
            for step in steps:
                yield from _look_at_events(step.events)


def _look_at_events(events: Events | Orders) -> Iterator[Look]:
    if isinstance(events, Orders):
        return
    for condition in events.where:
        if len(condition.path) == 1:
            place = Place(events.name, condition.path[0])
            yield from _compare(place, condition.comparison, condition.pointer)


def _compare(place: Place, comparison: Comparison, path: str) -> Iterator[Look]:
    wanted = _find_types(comparison)
    if wanted:
        yield Look(place, wanted, path)


def _find_types(comparison: Comparison) -> frozenset[ValueType]:
    """Return the types that a comparison can hold for; empty when it asks for none."""
    op, operand = comparison
    if op in TEXT_OPS or op in _TIME_OPS:
        return frozenset({"text"})
    if op in _ORDER_OPS or op in ("eq", "ne", "in", "not_in"):
        operands = operand if isinstance(operand, tuple) else (operand,)
        return frozenset(_type_of(each) for each in operands)
    return frozenset()


def _type_of(value: Any) -> ValueType:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text"


def _list(types: Iterable[str]) -> str:
    return " and ".join(sorted(types))
