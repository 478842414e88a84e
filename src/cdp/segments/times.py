"""Times and durations as rules read them, in documents and in values alike.

The grammar is RFC 3339 (https://www.rfc-editor.org/rfc/rfc3339 §5.6), with the offset optional
(then UTC), or a full date (its midnight in UTC). Years run from 1000 to 9999; fractions beyond
microseconds are cut. ``TIME_PATTERN`` is valid for RE2 and for Python, so that the SQL and the
evaluator read exactly the same texts.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta

from cdp.segments.rules import Duration

TIME_PATTERN = (
    r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
    r"([Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?"
)
_TIME = re.compile(TIME_PATTERN)
_LONG_FRACTION = re.compile(r"(\.[0-9]{6})[0-9]+")
_DURATION = re.compile(r"([0-9]{1,9})(mo|m|h|d|w|y)")
_EXACT = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
LONGEST_MONTHS = 9999 * 12
LONGEST = timedelta(days=9999 * 365)
EARLIEST = datetime.min.replace(tzinfo=UTC)


def read_time(text: str) -> datetime | None:
    """Read ``text`` by the grammar above; ``None`` when it is no such time."""
    if not _TIME.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text.upper()))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_duration(text: str) -> Duration | None:
    """Read ``30d``, ``12h``, ``3mo``; ``None`` for anything else and beyond 9,999 years."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    duration = Duration(int(match[1]), match[2])  # type: ignore[arg-type]
    unit = _EXACT.get(duration.unit)
    longest = LONGEST // unit if unit else LONGEST_MONTHS // months_of(Duration(1, duration.unit))
    return duration if duration.amount <= longest else None


def exact_length(duration: Duration) -> timedelta | None:
    """Return the fixed length of m, h, d, w; ``None`` for calendar steps (mo, y)."""
    unit = _EXACT.get(duration.unit)
    return None if unit is None else unit * duration.amount


def months_of(duration: Duration) -> int:
    """Return how many calendar months a duration in mo or y steps."""
    return duration.amount * (12 if duration.unit == "y" else 1)


def step_back(time: datetime, duration: Duration) -> datetime:
    """Return the instant ``duration`` before ``time``; the earliest possible one if before that.

    Months and years step on the UTC calendar, to the last day of a shorter month.
    """
    try:
        length = exact_length(duration)
        if length is not None:
            return time - length
        months = time.year * 12 + time.month - 1 - months_of(duration)
        year, month = divmod(months, 12)
        day = min(time.day, calendar.monthrange(year, month + 1)[1])
        return time.replace(year=year, month=month + 1, day=day)
    except (OverflowError, ValueError, calendar.IllegalMonthError):
        return EARLIEST
