"""Which types of values have been seen of a trait or a property, out of DuckDB."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from cdp.segments.person_engine import Reader
from cdp.segments.warnings import Place, ValueType

_TYPES: dict[str, ValueType] = {
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "ARRAY": "list",
    "OBJECT": "object",
    "BIGINT": "number",
    "UBIGINT": "number",
    "DOUBLE": "number",
}
# The bits of core.event_properties.kinds; the last stands for objects and lists alike.
_BITS: tuple[tuple[int, ValueType], ...] = (
    (1, "text"), (2, "number"), (4, "number"), (8, "boolean"), (16, "list"),
)  # fmt: skip

_TRAITS = """
SELECT DISTINCT name, json_type(value) AS type
  FROM core.node_traits WHERE list_contains($names, name)
"""
_PROPERTIES = """
SELECT event, property, bit_or(kinds)::INTEGER AS kinds FROM core.event_properties
 WHERE list_contains($events, event) GROUP BY event, property
"""


def read_seen_types(reader: Reader, places: Iterable[Place]) -> dict[Place, frozenset[ValueType]]:
    """Return the types seen at ``places``; those of which nothing was seen are left out."""
    wanted = set(places)
    found: dict[Place, set[ValueType]] = defaultdict(set)
    names = sorted(place.name for place in wanted if place.event is None)
    if names:
        for row in reader.read(_TRAITS, {"names": names}).to_pylist():
            if row["type"] in _TYPES:
                found[Place(None, row["name"])].add(_TYPES[row["type"]])
    events = sorted({place.event for place in wanted if place.event is not None})
    if events:
        for row in reader.read(_PROPERTIES, {"events": events}).to_pylist():
            place = Place(row["event"], row["property"])
            if place in wanted:
                found[place] |= {type for bit, type in _BITS if row["kinds"] & bit}
    return {place: frozenset(types) for place, types in found.items() if types}
