"""What time may change of each unit, kept as long as its definition stands. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from cdp.errors import CdpError
from cdp.segments.definitions import Definition, UnitName, depends_on_time, find_rules
from cdp.segments.flips import Crossing, Flips, Scan, find_flips
from cdp.segments.parse import parse_aggregate
from cdp.segments.rules import Rule


class FlipBook:
    """The flips of all segments and tags. Used by one thread."""

    def __init__(self, timezone: str) -> None:
        """``timezone`` is the zone of calendars that name none."""
        self._timezone = timezone
        self._known: dict[UnitName, tuple[int, Flips]] = {}

    def note(self, definitions: Iterable[Definition], read_rule: Callable[[Any], Rule]) -> None:
        """Know ``definitions``, and forget those that are gone. One that cannot be read stands

        still: its evaluation will say so.
        """
        known: dict[UnitName, tuple[int, Flips]] = {}
        for each in definitions:
            found = self._known.get(each.name)
            if found is None or found[0] != each.version:
                found = each.version, _find(each, read_rule)
            known[each.name] = found
        self._known = known

    @property
    def is_moving(self) -> bool:
        """Whether time alone may change anything."""
        return any(flips.is_moving for _, flips in self._known.values())

    @property
    def crossings(self) -> set[Crossing]:
        """All that are to be looked for."""
        return {one for _, flips in self._known.values() for one in flips.crossings}

    @property
    def scans(self) -> set[Scan]:
        """All that are to be looked for by reading a column."""
        return {one for _, flips in self._known.values() for one in flips.scans}

    @property
    def incomplete(self) -> list[UnitName]:
        """The units that must be looked at for everybody from time to time."""
        return [name for name, (_, flips) in self._known.items() if not flips.is_complete]

    def list_turned(self, since: datetime, now: datetime) -> list[UnitName]:
        """Return the units that follow a calendar of which a page was turned."""
        return [
            name
            for name, (_, flips) in self._known.items()
            if flips.turn(since, now, self._timezone)
        ]

    def list_crossed(self, names: set[str]) -> dict[UnitName, frozenset[str]]:
        """Return per unit its crossings among ``names``, if any."""
        found = {unit: flips.names & names for unit, (_, flips) in self._known.items()}
        return {unit: crossings for unit, crossings in found.items() if crossings}


def _find(definition: Definition, read_rule: Callable[[Any], Rule]) -> Flips:
    document = definition.document
    if definition.kind == "tag" and "builtin" in document:
        return Flips(is_complete=not depends_on_time(document))
    try:
        if definition.kind == "tag" and "aggregate" in document:
            return find_flips([parse_aggregate(document["aggregate"])])
        return find_flips([read_rule(rule) for rule in find_rules(definition)])
    except CdpError:
        return Flips()
