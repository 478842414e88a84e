"""Which events have a table with typed columns that is complete, out of DuckDB."""

from __future__ import annotations

from cdp.segments.mirror_engine import Duck
from cdp.segments.person_engine import Reader
from cdp.typed_columns import READY, TypedEvent, TypedEvents, TypedProperty, name_table

_TYPED = f"""
SELECT t.event, t.number, p.property, p.position, p.kinds
  FROM core.typed_tables t LEFT JOIN core.typed_properties p ON p.number = t.number
 WHERE t.filled_to = {READY} AND NOT t.is_retired
"""


def read_typed(reader: Reader) -> TypedEvents:
    """Return the typed tables as a reader sees them now; one that goes stays a while longer."""
    columns = reader.read(_TYPED).to_pydict()
    return _collect(list(zip(*columns.values(), strict=True)))


def find_typed(duck: Duck) -> TypedEvents:
    """Return the typed tables as a transaction sees them."""
    return _collect(duck.execute(_TYPED).fetchall())


def _collect(rows: list[tuple[str, int, str | None, int, int]]) -> TypedEvents:
    found: dict[str, TypedEvent] = {}
    properties: dict[str, dict[str, TypedProperty]] = {}
    for event, number, name, position, kinds in rows:
        columns = properties.setdefault(event, {})
        found[event] = TypedEvent(name_table(number), columns)
        if name is not None:
            columns[name] = TypedProperty(position, kinds)
    return found
