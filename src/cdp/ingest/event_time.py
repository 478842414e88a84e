"""When an event happened: the caller's time, corrected for the caller's clock. Pure.

``timestamp`` is what the caller says; ``sentAt`` is the same clock at sending. Their difference is
how long the event waited on the device, so event time = receipt - (sent - original). Sources whose
clocks are trusted are taken at their word.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cdp.runtime.clock import parse_time

_FURTHEST_AHEAD = timedelta(hours=24)
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# From here on a number counts milliseconds since 1970, and not seconds (of the year 5138); from
# the next microseconds, and so on.
_FIRST_MILLISECONDS = 1e11
_STEP = 1000
# Fewer digits are a date of ISO 8601, such as 20260301.
_DIGITS = re.compile(r"-?[0-9]{9,20}(\.[0-9]{1,20})?")

Written = str | int | float | None
"""A time as found in an event."""

parse_cached = lru_cache(maxsize=1024)(parse_time)
"""``parse_time`` for texts that many lines share, such as the time of receipt."""


class EventTime(NamedTuple):
    """The event time, and how it comes to differ from what the caller wrote."""

    at: datetime
    is_as_written: bool = False
    is_bad: bool = False
    is_future: bool = False

    @property
    def is_odd(self) -> bool:
        """Whether what the caller wrote is unreadable, or lies too far ahead."""
        return self.is_bad or self.is_future


def read_time(written: Written) -> datetime | None:
    """Read a time as SDKs write it: RFC 3339 text, or a number since 1970, also as its digits.

    The number's size says whether it counts seconds, milli-, micro- or nanoseconds.
    """
    if isinstance(written, str):
        # First, because ISO 8601 as Python reads it sees a date in some of them.
        if written[4:5].isdigit() and _DIGITS.fullmatch(written):
            return _read_number(float(written) if "." in written else int(written))
        return parse_time(written)
    if written is None or isinstance(written, bool):
        return None
    return _read_number(written)


def _read_number(number: int | float) -> datetime | None:
    unit = 1
    while abs(number) >= _FIRST_MILLISECONDS * unit and unit < _STEP**3:
        unit *= _STEP
    try:
        # In whole microseconds, because a float of seconds has too few digits for them.
        if isinstance(number, int) and unit > 1:
            return _EPOCH + timedelta(microseconds=number * _STEP**2 // unit)
        return datetime.fromtimestamp(number / unit, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def decide_time(
    original: Written, sent: Written, received_at: datetime, *, clock_is_trusted: bool
) -> EventTime:
    """Return when an event happened, from what it says, when it was sent and when it arrived."""
    written = read_time(original)
    if written is None:
        return EventTime(received_at, is_bad=original not in (None, ""))
    happened = written
    if not clock_is_trusted and sent is not None:
        sent_at = read_time(sent)
        if sent_at is not None:
            try:
                happened = received_at - (sent_at - written)
            except OverflowError:
                return EventTime(received_at, is_bad=True)
    if happened > received_at + _FURTHEST_AHEAD:
        return EventTime(received_at, is_future=True)
    if happened < _EARLIEST:
        # Too close to the first representable moment to be moved by any time zone.
        return EventTime(received_at, is_bad=True)
    return EventTime(happened, is_as_written=happened == written)
