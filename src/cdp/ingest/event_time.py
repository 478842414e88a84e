"""When an event happened: the caller's time, corrected for the caller's clock. Pure.

``timestamp`` is what the caller says; ``sentAt`` is the same clock at sending. Their difference is
how long the event waited on the device, so event time = receipt - (sent - original). Sources whose
clocks are trusted are taken at their word.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cdp.runtime.clock import Written, parse_time, read_time

_FURTHEST_AHEAD = timedelta(hours=24)
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
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
