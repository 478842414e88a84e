"""When a rule's answer may change for somebody although nothing happens. Pure.

An answer changes by time alone when a fact reaches an age that the rule names (an event leaves "the
last 30 days", the third day without a visit is over), when a value that is a time does so ("renewed
within the last week"), when another whole day has passed since an event, or when the calendar turns
a page. So whoever may flip between two looks is found by their facts: those that came of such an
age in between. A rule that asks for ages in another way is looked at for everybody, now and then.

Facts dated in the future are not meant: every rule sees those once their time has come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from cdp.segments.rules import (
    ELAPSED_FUNCTIONS,
    AnyAccount,
    CalendarUnit,
    CalendarWindow,
    Comparison,
    Duration,
    EventCount,
    EventFigure,
    Events,
    HasIdentifier,
    LastWindow,
    MoneyComparison,
    Orders,
    Rule,
    Sequence,
    Tag,
    Trait,
    Window,
    walk,
)
from cdp.segments.windows import calendar_period

_TIME_OPS = frozenset({"within_last", "not_within_last"})
_LONGEST_DAYS = 9999 * 365


class Crossing(NamedTuple):
    """Facts of one kind that come of an age: events of a name, or (``None``) orders."""

    event: str | None
    age: Duration

    @property
    def name(self) -> str:
        """How it is called where facts are looked up: ``e:30d:Order Completed``."""
        kind = "o" if self.event is None else "e"
        return f"{kind}:{self.age.amount}{self.age.unit}:{self.event or ''}"


class ValueCrossing(NamedTuple):
    """Values that are times and come of an age; at the age of nothing their moment has come."""

    of: Literal["trait", "tag", "account"]
    """Whose trait it is: a person's or an account's; or a tag."""
    key: str
    age: Duration

    @property
    def name(self) -> str:
        """How it is called where facts are looked up: ``trait:30d:renews_at``."""
        return f"{self.of}:{self.age.amount}{self.age.unit}:{self.key}"


class DayCrossing(NamedTuple):
    """Events of a name, or (``None``) orders, since which another whole day of 24 h has passed."""

    event: str | None

    @property
    def name(self) -> str:
        """How it is called where facts are looked up: ``day:e:Order Completed``."""
        return "day:o" if self.event is None else f"day:e:{self.event}"


Scan = ValueCrossing | DayCrossing
"""What is found by reading a column, not a slice of the facts by their time."""


class Calendar(NamedTuple):
    """A calendar whose pages a rule follows; ``timezone`` ``None`` is the workspace's."""

    unit: CalendarUnit
    timezone: str | None


@dataclass(frozen=True, slots=True)
class Flips:
    """The ways in which time alone may change an answer."""

    crossings: frozenset[Crossing] = frozenset()
    calendars: frozenset[Calendar] = frozenset()
    scans: frozenset[Scan] = frozenset()
    is_complete: bool = True
    """False: there are others, so that everybody is to be looked at from time to time."""

    @property
    def is_moving(self) -> bool:
        """Whether time alone may change anything."""
        return bool(self.crossings or self.calendars or self.scans) or not self.is_complete

    @property
    def names(self) -> frozenset[str]:
        """How the facts that may change an answer are called where they are looked up."""
        return frozenset(one.name for one in (*self.crossings, *self.scans))

    def turn(self, since: datetime, now: datetime, timezone: str) -> bool:
        """Whether a page was turned in (``since``, ``now``]: then for everybody at once."""
        return any(
            since < calendar_period(unit, 0, zone or timezone, now)[0]
            for unit, zone in self.calendars
        )


def find_flips(rules: Iterable[Rule]) -> Flips:
    """Return what time may change about the answers of ``rules``."""
    crossings: set[Crossing] = set()
    calendars: set[Calendar] = set()
    scans: set[Scan] = set()
    is_complete = True
    for leaf in (node for rule in rules for node in walk(rule)):
        crossings.update(_find_crossings(leaf))
        calendars.update(_find_calendars(leaf))
        scans.update(_find_scans(leaf))
        is_complete = is_complete and not _asks_for_other_times(leaf)
    return Flips(frozenset(crossings), frozenset(calendars), frozenset(scans), is_complete)


def _find_crossings(leaf: Rule) -> Iterator[Crossing]:
    match leaf:
        case Sequence(steps=steps, within=within):
            for step in steps:
                yield from _leave(step.events, within)
        case EventCount(events=events):
            yield from _leave(events, events.within)
        case EventFigure(events=events, function=function, comparison=comparison):
            yield from _leave(events, events.within)
            if function in ELAPSED_FUNCTIONS and comparison is not None:
                for days in _find_thresholds(comparison):
                    yield Crossing(_name(events), Duration(days, "d"))


def _leave(events: Events | Orders, within: Window | None) -> Iterator[Crossing]:
    if isinstance(within, LastWindow):
        yield Crossing(_name(events), within.duration)


def _name(events: Events | Orders) -> str | None:
    return events.name if isinstance(events, Events) else None


def _find_thresholds(comparison: Comparison | MoneyComparison) -> Iterator[int]:
    """Yield the whole numbers of days on reaching which a comparison may change."""
    operand = comparison.operand
    for value in operand if isinstance(operand, tuple) else (operand,):
        # A duration or a text is no number, and compares with none.
        if isinstance(value, float) and math.isfinite(value):
            for days in {math.ceil(value), math.floor(value) + 1}:
                if 1 <= days <= _LONGEST_DAYS:
                    yield days


def _find_calendars(leaf: Rule) -> Iterator[Calendar]:
    match leaf:
        case Sequence(within=within):
            pass
        case EventCount(events=events) | EventFigure(events=events):
            within = events.within
        case _:
            return
    if isinstance(within, CalendarWindow):
        yield Calendar(within.unit, within.timezone)


def _find_scans(leaf: Rule) -> Iterator[Scan]:
    match leaf:
        case Trait(path=path, comparison=comparison):
            yield from _compare_with_now("trait", path[0], comparison)
        case Tag(key=key, comparison=comparison):
            yield from _compare_with_now("tag", key, comparison)
        case AnyAccount(rule=inner):
            for one in walk(inner):
                if isinstance(one, Trait):
                    yield from _compare_with_now("account", one.path[0], one.comparison)
        case EventFigure(events=events, function=function, comparison=None):
            # Without a comparison every day counts, whatever its number.
            if function in ELAPSED_FUNCTIONS:
                yield DayCrossing(_name(events))


def _compare_with_now(
    of: Literal["trait", "tag", "account"], key: str, comparison: Comparison
) -> Iterator[Scan]:
    if isinstance(comparison.operand, Duration):
        yield ValueCrossing(of, key, Duration(0, "d"))
        yield ValueCrossing(of, key, comparison.operand)


def _asks_for_other_times(leaf: Rule) -> bool:
    match leaf:
        case HasIdentifier(comparison=comparison):
            return comparison.op in _TIME_OPS
        case EventCount(events=events):
            return _asks_in_where(events)
        case EventFigure(events=events, comparison=comparison):
            is_of_times = comparison is not None and comparison.op in _TIME_OPS
            return is_of_times or _asks_in_where(events)
        case Sequence(steps=steps):
            return any(_asks_in_where(step.events) for step in steps)
        case _:
            return False


def _asks_in_where(events: Events | Orders) -> bool:
    conditions = [each.comparison for each in events.where]
    if isinstance(events, Orders):
        conditions += [each.comparison for each in events.line_where]
    return any(each.op in _TIME_OPS for each in conditions)
