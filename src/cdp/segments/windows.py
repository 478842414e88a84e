"""Which stretch of time a window means at one instant."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cdp.segments.rules import (
    BetweenWindow,
    CalendarUnit,
    CalendarWindow,
    LastWindow,
    SinceWindow,
    Window,
)
from cdp.segments.times import EARLIEST, step_back

LATEST = datetime.max.replace(tzinfo=UTC)


class Bounds(NamedTuple):
    """A stretch of time that never reaches beyond ``now``; ``start`` None: no lower bound."""

    start: datetime | None
    start_is_inside: bool
    end: datetime
    end_is_inside: bool

    def contain(self, time: datetime) -> bool:
        """Whether ``time`` lies in the stretch."""
        after_start = (
            self.start is None or time > self.start or (self.start_is_inside and time == self.start)
        )
        return after_start and (time < self.end or (self.end_is_inside and time == self.end))


def bounds(window: Window | None, now: datetime, timezone: str) -> Bounds:
    """Return the stretch that ``window`` means at ``now``: without a window everything up to it.

    ``timezone`` is the IANA zone of calendar windows that name none. ``last`` is open at its
    start and closed at now; ``since`` closed; ``between`` and calendar windows are half-open.
    """
    match window:
        case None:
            return Bounds(None, False, now, True)
        case LastWindow(duration):
            return Bounds(step_back(now, duration), False, now, True)
        case SinceWindow(start):
            return Bounds(start, True, now, True)
        case BetweenWindow(start, end):
            return _until(start, end, now)
        case CalendarWindow(unit, offset, zone):
            return _until(*calendar_period(unit, offset, zone or timezone, now), now)


def calendar_period(
    unit: CalendarUnit, offset: int, timezone: str, now: datetime
) -> tuple[datetime, datetime]:
    """Return the first instant of a calendar period and that of the next one, in UTC.

    Offset 0 is the period that holds ``now`` in ``timezone``, −1 the one before.
    """
    zone = ZoneInfo(timezone)
    first = _first_day(unit, now.astimezone(zone).date())
    return (
        _midnight(_step(first, unit, offset), zone),
        _midnight(_step(first, unit, offset + 1), zone),
    )


def _until(start: datetime, end: datetime, now: datetime) -> Bounds:
    return Bounds(start, True, now, True) if end > now else Bounds(start, True, end, False)


def _first_day(unit: CalendarUnit, day: date) -> date:
    match unit:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "year":
            return day.replace(month=1, day=1)


def _step(first: date, unit: CalendarUnit, count: int) -> date | None:
    """Return the first day ``count`` periods later; None beyond the calendar's ends."""
    try:
        if unit in ("day", "week"):
            return first + timedelta(days=count * (7 if unit == "week" else 1))
        months = {"month": 1, "quarter": 3, "year": 12}[unit] * count
        year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
        return date(year, month + 1, 1)
    except (OverflowError, ValueError):
        return date.max if count > 0 else None


def _midnight(day: date | None, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local day; where midnight is skipped, the first after it."""
    if day is None:
        return EARLIEST
    try:
        # fold=0 reads a skipped midnight with the offset before the jump, which is the jump itself.
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    except (OverflowError, ValueError):
        return LATEST if day.year > 1 else EARLIEST
