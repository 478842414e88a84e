"""How the properties of an event's own table are laid out in typed columns. Pure.

A property has a column per type of value that was seen of it: texts, numbers and booleans each in
their own, so that a value of another type is never converted and never lost; lists, objects and
what a number cannot hold exactly are JSON in a fourth. A column comes when the first value of its
type does: no row before it can have had one, so nothing is ever filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# What JSON types a property has had, as bits. Null says nothing.
TEXT, INTEGER, FRACTION, BOOLEAN, NESTED = 1, 2, 4, 8, 16

LARGEST_PLAIN = 2**53
"""From here on a number is kept as JSON too, beside its double."""

READY = 2**63 - 1
"""``filled_to`` of a table that holds every event of its name."""


class TypedProperty(NamedTuple):
    """The columns of a property; ``kinds`` are the types for which there is one."""

    position: int
    kinds: int

    @property
    def text(self) -> str | None:
        """The column of its texts."""
        return f"t{self.position}" if self.kinds & TEXT else None

    @property
    def number(self) -> str | None:
        """The column of its numbers, doubles."""
        return f"n{self.position}" if self.kinds & (INTEGER | FRACTION) else None

    @property
    def boolean(self) -> str | None:
        """The column of its booleans."""
        return f"b{self.position}" if self.kinds & BOOLEAN else None

    @property
    def other(self) -> str | None:
        """The column of its lists, objects and large numbers, JSON."""
        kept = INTEGER | FRACTION | NESTED
        return f"j{self.position}" if self.kinds & kept else None

    def columns(self) -> dict[str, str]:
        """Return its columns with their types."""
        typed = {
            self.text: "VARCHAR",
            self.number: "DOUBLE",
            self.boolean: "BOOLEAN",
            self.other: "JSON",
        }
        return {name: kind for name, kind in typed.items() if name is not None}


class TypedEvent(NamedTuple):
    """A table of all events of one name."""

    table: str
    properties: Mapping[str, TypedProperty]


TypedEvents = Mapping[str, TypedEvent]
"""By the event's name."""


def name_table(number: int) -> str:
    """Return what a typed table is called."""
    return f"core.typed_{number}"


def write_columns(value: str, typed: TypedProperty) -> dict[str, str]:
    """Return SQL for each column of a property out of its ``value`` (SQL), which is JSON."""
    text = f"starts_with({value}, '\"')"
    number = f"TRY_CAST({value}::VARCHAR AS DOUBLE)"
    boolean = f"{value}::VARCHAR IN ('true', 'false')"
    written = {
        typed.text: f"CASE WHEN {text} THEN json_extract_string({value}, '$') END",
        typed.number: number,
        typed.boolean: f"CASE WHEN {boolean} THEN {value}::VARCHAR = 'true' END",
        typed.other: (
            f"CASE WHEN abs({number}) < {LARGEST_PLAIN} OR {text} OR {boolean}"
            f" OR {value}::VARCHAR = 'null' THEN NULL ELSE {value} END"
        ),
    }
    return {name: sql for name, sql in written.items() if name is not None}
