"""Rows of COPY's binary format: nothing to escape, no numbers and times to read. Pure but for

``copy_rows``. Of each field its length and its bytes, numbers in network order, a length of -1 for
null; a head first, at last a count of -1. Format: PostgreSQL manual, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cdp.storage.database import Driver

HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TAIL = struct.pack("!h", -1)
NULL = struct.pack("!i", -1)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""What Postgres counts microseconds from."""
EARLIEST, LATEST = -(2**63), 2**63 - 1
"""``-infinity`` and ``infinity`` as ``count_microseconds`` would give them."""

_FIRST_DAY = EPOCH.toordinal()
_BIGINT = 20
_INCLUDES_LOWER = 2
_pack_length = struct.Struct("!i").pack
_pack_time = struct.Struct("!iq").pack


def count_microseconds(time: datetime) -> int:
    """Return a ``timestamptz`` as Postgres sends it."""
    since = time - EPOCH
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds


def pack_text(text: str) -> bytes:
    """Return a field of type ``text``."""
    value = text.encode()
    return _pack_length(len(value)) + value


def pack_time(time: datetime | None) -> bytes:
    """Return a field of type ``timestamptz``."""
    return NULL if time is None else _pack_time(8, count_microseconds(time))


def pack_bigints(numbers: Sequence[int]) -> bytes:
    """Return a field of type ``bigint[]``; there must be one at least."""
    count = len(numbers)
    fields = [one for number in numbers for one in (8, number)]
    # Dimensions, has nulls, element type, length, lower bound; then length and value of each.
    return struct.pack(f"!iiiIii{'iq' * count}", 20 + 12 * count, 1, 0, _BIGINT, count, 1, *fields)


def pack_days(ranges: Sequence[tuple[int, int]]) -> bytes:
    """Return a field of type ``datemultirange``: stretches of days (``date.toordinal``), each from

    the first to before the second, in order and apart.
    """
    spans = b"".join(
        struct.pack("!iBiiii", 17, _INCLUDES_LOWER, 4, start - _FIRST_DAY, 4, end - _FIRST_DAY)
        for start, end in ranges
    )
    return _pack_length(4 + len(spans)) + _pack_length(len(ranges)) + spans


def list_ranges(days: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return days as stretches, as Postgres would: in order, neighbours together."""
    ranges: list[tuple[int, int]] = []
    for day in sorted(days):
        if ranges and ranges[-1][1] == day:
            ranges[-1] = (ranges[-1][0], day + 1)
        else:
            ranges.append((day, day + 1))
    return tuple(ranges)


def copy_rows(conn: Driver, table: str, columns: str, rows: Iterable[bytes]) -> None:
    """Append rows to a table; each has a count of its fields, and the fields of ``columns``."""
    statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(b"".join((HEAD, *rows, TAIL)))
