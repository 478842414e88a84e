"""What traffic looks like: events, their properties, how often, of which types. Pure.

Events are all counted, top-level properties in all but floods of them. What lies deeper, and the
examples, come from samples: a property within an object counts against the objects sampled.
Examples are places of events, never copies: what is erased there is gone here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from cdp.plan.paths import find_leaf, type_of, walk
from cdp.runtime.error_answers import make_pointer

MOST_EVENTS = 1_000
"""Of one source; a name made of ids would otherwise fill the table."""
MOST_PROPERTIES = 300
"""Of one event, deeper ones included."""
MOST_EXAMPLES = 3
LONGEST_NAME = 200
LONGEST_PATH = 500

JSON_TYPES = {
    "VARCHAR": "string", "BIGINT": "integer", "UBIGINT": "integer", "DOUBLE": "number",
    "BOOLEAN": "boolean", "OBJECT": "object", "ARRAY": "array", "NULL": "null",
}  # fmt: skip
"""DuckDB's names of JSON types, in the words of JSON Schema."""


class Place(NamedTuple):
    """Where an event lies in DuckDB."""

    seq: int
    ordinal: int


class EventKey(NamedTuple):
    """Whose calls are counted together. ``event`` is the name of track calls, else empty."""

    source_id: str
    type: str
    event: str


@dataclass(slots=True)
class ObservedProperty:
    """A property, by its path: ``/total``, ``/products/*/sku``."""

    count: int = 0
    within: int = 0
    """How many objects it could have been in; 0 at the top, where all events read count."""
    types: Counter[str] = field(default_factory=Counter)
    examples: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class ObservedEvent:
    """The calls of one kind from one source."""

    count: int = 0
    read: int = 0
    """Of which the properties were counted; fewer than ``count`` after a flood."""
    sampled: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    findings: Counter[str] = field(default_factory=Counter)
    """How many carry a mark of the tracking plan, by reason."""
    is_truncated: bool = False
    """Whether properties were left out, being too many or too long."""
    properties: dict[str, ObservedProperty] = field(default_factory=dict)


Observed = dict[EventKey, ObservedEvent]


class Total(NamedTuple):
    """Events of one kind in a stretch of traffic."""

    events: int
    first_seen: datetime
    last_seen: datetime
    findings: Mapping[str, int]


class Shape(NamedTuple):
    """Events of one kind that have the same top-level properties of the same types."""

    key: EventKey
    names: Sequence[str]
    types: Sequence[str]
    events: int
    places: Sequence[Place]
    """A few of them."""


def add_total(observed: Observed, key: EventKey, total: Total) -> bool:
    """Count events in; return whether there was room for their kind."""
    event = observed.get(key)
    if event is None:
        known = sum(1 for other in observed if other.source_id == key.source_id)
        if known >= MOST_EVENTS or len(key.event) > LONGEST_NAME:
            return False
        event = observed[key] = ObservedEvent()
    event.count += total.events
    event.first_seen = min(event.first_seen or total.first_seen, total.first_seen)
    event.last_seen = max(event.last_seen or total.last_seen, total.last_seen)
    event.findings.update({name: number for name, number in total.findings.items() if number})
    return True


def add_shape(event: ObservedEvent, shape: Shape) -> None:
    """Count the top-level properties of a shape in."""
    event.read += shape.events
    # A name sent twice in one object is one property.
    for name, kind in dict(zip(shape.names, shape.types, strict=True)).items():
        found = _find(event, make_pointer((name,)))
        if found is not None:
            found.count += shape.events
            found.types[JSON_TYPES.get(kind, "number")] += shape.events


def list_missing(event: ObservedEvent, shape: Shape) -> int:
    """Return how many of the shape's properties still lack an example: what a sample is worth."""
    known = (event.properties.get(make_pointer((name,))) for name in shape.names)
    return sum(1 for one in known if one is not None and not one.examples)


class Samples:
    """Takes sampled events in. Remembers which values it has shown, so that examples differ."""

    def __init__(self) -> None:
        self._shown: dict[tuple[EventKey, str], set[int]] = {}

    def add(
        self, key: EventKey, event: ObservedEvent, properties: dict[str, Any], place: Place
    ) -> None:
        """Count what lies deeper in ``properties``, and keep the place where an example lacks."""
        event.sampled += 1
        for path, value, parents in walk(properties):
            is_deep = path.count("/") > 1
            found = _find(event, path) if is_deep else event.properties.get(path)
            if found is None:
                continue
            if is_deep:
                found.count += len(value)
                found.within += parents
                found.types.update(map(type_of, value))
            self._keep_example(key, path, found, value, place)

    def _keep_example(
        self,
        key: EventKey,
        path: str,
        found: ObservedProperty,
        values: Sequence[Any],
        place: Place,
    ) -> None:
        leaf = find_leaf(values)
        if leaf is None or len(found.examples) >= MOST_EXAMPLES:
            return
        shown = self._shown.setdefault((key, path), set())
        if hash(leaf) not in shown:
            shown.add(hash(leaf))
            found.examples.append(place)


def merge_sources(observed: Mapping[EventKey, ObservedEvent]) -> Observed:
    """Return the same over all sources: keys without one."""
    merged: Observed = {}
    for key, event in observed.items():
        into = merged.setdefault(EventKey("", key.type, key.event), ObservedEvent())
        into.count += event.count
        into.read += event.read
        into.sampled += event.sampled
        times = [t for t in (into.first_seen, event.first_seen) if t is not None]
        into.first_seen = min(times, default=None)
        times = [t for t in (into.last_seen, event.last_seen) if t is not None]
        into.last_seen = max(times, default=None)
        into.findings.update(event.findings)
        into.is_truncated |= event.is_truncated
        for path, found in event.properties.items():
            one = into.properties.setdefault(path, ObservedProperty())
            one.count += found.count
            one.within += found.within
            one.types.update(found.types)
            one.examples = [*one.examples, *found.examples][:MOST_EXAMPLES]
    return merged


def share_of(event: ObservedEvent, found: ObservedProperty) -> float:
    """Return in which part of the objects that could hold it a property was; 0 to 1."""
    among = found.within or event.read
    return min(1.0, found.count / among) if among else 0.0


def _find(event: ObservedEvent, path: str) -> ObservedProperty | None:
    found = event.properties.get(path)
    if found is None:
        if len(event.properties) >= MOST_PROPERTIES or len(path) > LONGEST_PATH:
            event.is_truncated = True
            return None
        found = event.properties[path] = ObservedProperty()
    return found
