"""Over whom and when a statement is evaluated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from cdp.segments.compile_values import Parameters
from cdp.segments.rules import Window
from cdp.segments.windows import bounds
from cdp.typed_columns import TypedEvent, TypedEvents


@dataclass(frozen=True, slots=True)
class Scope:
    """An instant, the zone of calendar windows that name none, and all profiles or only those in
    the relation ``scope(profile_no)``."""

    now: datetime
    timezone: str
    is_restricted: bool
    copied: set[str] | None = None
    """Not ``None``: facts are read from copies that hold those of ``scope`` at least (see

    ``scope_engine``); the tables that a statement needs are put into it.
    """

    typed: TypedEvents = field(default_factory=dict)
    """Events that have a table with typed columns; copies have none."""

    def typed_event(self, name: str, properties: Collection[str]) -> TypedEvent | None:
        """Return the table of the events ``name`` that has columns for ``properties``."""
        typed = self.typed.get(name) if self.copied is None else None
        if typed is None or any(each not in typed.properties for each in properties):
            return None
        return typed

    def table(self, name: str) -> str:
        """Return what a table of ``core`` is called."""
        if self.copied is None:
            return f"core.{name}"
        self.copied.add(name)
        return f"scope_{name}"

    def owners(self) -> str:
        """Return the relation that says whose a node's facts are, by their time."""
        table = self.table("node_profiles")
        return f"(SELECT node_id, since, until, profile_no FROM {table}{self._among()})"

    def owned_events(self) -> str:
        """Return the events ``e`` joined with whose they are (``profile_no``)."""
        events = self.table("events")
        if self.copied is not None:
            return f"{events} e{self._among()}"
        return (
            f"{events} e JOIN {self.owners()} o "
            'ON e.node_id = o.node_id AND e."at" >= o.since AND e."at" < o.until'
        )

    def copied_traits(self) -> str | None:
        """Return the relation (profile_no, name, value) of what traits amount to, in the copies."""
        if self.copied is None:
            return None
        return f"(SELECT profile_no, name, value FROM {self.table('trait_values')}{self._among()})"

    def everyone(self) -> str:
        """Return the relation of the profiles that are looked at."""
        return f"(SELECT profile_no FROM {self.table('profiles')}{self._among()})"

    def in_window(self, time: str, window: Window | None, parameters: Parameters) -> str:
        """Return the condition that the column ``time`` lies in ``window``, and not after now."""
        stretch = bounds(window, self.now, self.timezone)
        tests = []
        if stretch.start is not None:
            sign = ">=" if stretch.start_is_inside else ">"
            tests.append(f"{time} {sign} {parameters.add(stretch.start)}")
        sign = "<=" if stretch.end_is_inside else "<"
        tests.append(f"{time} {sign} {parameters.add(stretch.end)}")
        return " AND ".join(tests)

    def _among(self) -> str:
        return " SEMI JOIN scope USING (profile_no)" if self.is_restricted else ""
