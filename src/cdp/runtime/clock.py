"""Time at the rim. Decisions take the time as an argument; only rims call ``now``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

# RFC 3339 and what SDKs make of it: any number of fraction digits, `Z` or an offset, or a date.
_FRACTION = re.compile(r"\.(\d{1,12})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# From here on a number counts milliseconds since 1970, and not seconds (of the year 5138); from
# the next microseconds, and so on.
_FIRST_MILLISECONDS = 1e11
_STEP = 1000
# Fewer digits are a date of ISO 8601, such as 20260301.
_DIGITS = re.compile(r"-?[0-9]{9,20}(\.[0-9]{1,20})?")

Written = str | int | float | None
"""A time as senders write it."""


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def format_time(time: datetime) -> str:
    """Return ``time`` as RFC 3339 in UTC with milliseconds: ``2026-03-01T08:00:00.000Z``."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime | None:
    """Read RFC 3339 text, or a date (its midnight), in UTC when it names no offset.

    Returns ``None`` for anything else; fractions beyond microseconds are cut.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        shortened = _FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", text.strip(), count=1)
        try:
            time = datetime.fromisoformat(shortened)
        except ValueError:
            return None
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


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
