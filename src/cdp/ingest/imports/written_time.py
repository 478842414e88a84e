"""Read times as people write them in tables. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from cdp.runtime.clock import read_time

# 2026-03-01, 2026/3/1 8:00, 2026.3.1, 2026年3月1日 8时05分, 20260301, 20260301080500
_WRITTEN_TIME = re.compile(
    r"(?P<y>\d{4})(?:(?P<sep>[-/.年])(?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})日?"
    r"|(?P<m2>\d{2})(?P<d2>\d{2}))"
    r"(?:[T\s]*(?P<H>\d{1,2})(?:[:：时点]?(?P<M>\d{2}))(?:[:：分]?(?P<S>\d{2})(?P<f>[.,]\d{1,9})?)?"
    r"[分秒]?)?"
    r"\s*(?P<z>Z|UTC|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)


def read_moment(cell: Any, formats: tuple[str, ...]) -> datetime:
    """Return the time that a cell says, naive when it names no zone; raises ``ValueError``."""
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime.combine(cell, time())
    if isinstance(cell, Decimal):
        cell = float(cell)
    if isinstance(cell, str):
        text = cell.strip()
        for form in formats:
            moment = _read_formatted(text, form)
            if moment is not None:
                return moment
        if formats:
            raise ValueError("not a time of the form that the mapping says")
        return _read_written(text)
    is_number = isinstance(cell, int | float) and not isinstance(cell, bool)
    found = read_time(cell) if is_number else None
    if found is None:
        raise ValueError("not a time")
    return found


def _read_formatted(text: str, form: str) -> datetime | None:
    try:
        if form in ("epoch", "epoch_ms"):
            return datetime.fromtimestamp(float(text) / (1000 if form == "epoch_ms" else 1), UTC)
        return datetime.strptime(text, form)
    except (ValueError, OverflowError, OSError):
        return None


def _read_written(text: str) -> datetime:
    # Before the standard library's own reader, which takes 20260301 but not what stands around it.
    found = _WRITTEN_TIME.fullmatch(text)
    try:
        if found is None:
            return datetime.fromisoformat(text)
        fraction = (found["f"] or "")[1:7].ljust(6, "0")
        moment = datetime(
            int(found["y"]),
            int(found["m"] or found["m2"]),
            int(found["d"] or found["d2"]),
            int(found["H"] or 0),
            int(found["M"] or 0),
            int(found["S"] or 0),
            int(fraction),
        )
        zone = found["z"]
        if zone is None:
            return moment
        if zone.upper() in ("Z", "UTC"):
            return moment.replace(tzinfo=UTC)
        return datetime.fromisoformat(moment.isoformat() + zone)
    except ValueError as error:
        raise ValueError("not a time") from error


def in_zone(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return a time in UTC; one that names no zone is one of ``zone``. Raises ``ValueError``."""
    try:
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(
            UTC
        )
    except (OverflowError, ValueError) as error:
        raise ValueError("not a time") from error
