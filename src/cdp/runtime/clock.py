"""Time at the rim. Decisions take the time as an argument; only rims call ``now``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# RFC 3339 and what SDKs make of it: any number of fraction digits, `Z` or an offset, or a date.
_FRACTION = re.compile(r"\.(\d{1,12})")


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
