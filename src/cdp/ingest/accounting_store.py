"""What became of every element that was delivered, per source and minute of receipt.

``received = stored + duplicate + rejected + in_flight``, where the first four are counted in the
transaction that works events off, and ``in_flight`` is read from the log behind the positions of
that very moment and counts as received too. ``received`` is what the headers of the records count,
the outcomes are counted one by one: a minute that does not balance shows a fault of the worker.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cdp.errors import Unavailable
from cdp.ingest.refused_lines import Received, add_received
from cdp.log.port import Log, LogUnavailable, Record
from cdp.storage.database import Database, Driver, driver
from cdp.storage.outcomes_store import minute_of
from cdp.storage.positions import read_positions

_CHUNK_BYTES = 8 * 1024 * 1024
_MOST_BYTES = 256 * 1024 * 1024

# ``Log.read`` takes one caller at a time.
_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Minute:
    """What was received in one minute, and what became of it."""

    minute: datetime
    counted: int
    """Lines of the records that were worked off, as their headers count them."""
    stored: int
    duplicate: int
    rejected: int
    in_flight: int

    @property
    def received(self) -> int:
        """Every delivered element."""
        return self.counted + self.in_flight

    @property
    def balanced(self) -> bool:
        """Whether everything received is stored, a duplicate, rejected or on its way."""
        return self.received == self.stored + self.duplicate + self.rejected + self.in_flight


def read_accounting(
    database: Database,
    log: Log,
    source_id: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    limit: int | None = None,
) -> list[Minute]:
    """Return the minutes of a source in ``[since, until)``, oldest first, at most ``limit``.

    Raises ``Unavailable`` when the log does not answer, or too much is in flight to be counted.
    """
    with database.snapshot() as connection:
        raw = driver(connection)
        counted = _read_counted(raw, source_id, since, until, limit)
        positions = read_positions(raw, log.name)
    in_flight = _count_in_flight(log, positions, source_id)
    minutes = [
        Minute(minute, *counted.get(minute, (0, 0, 0, 0)), in_flight[minute])
        for minute in sorted(counted.keys() | in_flight.keys())
        if (since is None or minute >= since) and (until is None or minute < until)
    ]
    return minutes[:limit]


def _read_counted(
    connection: Driver,
    source_id: str,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
) -> dict[datetime, tuple[int, int, int, int]]:
    rows = connection.execute(
        """SELECT minute, received, stored, duplicate, rejected FROM accounting
            WHERE source_id = %s
              AND minute >= coalesce(%s, '-infinity'::timestamptz)
              AND minute < coalesce(%s, 'infinity'::timestamptz)
            ORDER BY minute LIMIT %s""",
        (source_id, since, until, limit),
    )
    return {minute.astimezone(UTC): (all_, kept, dup, bad) for minute, all_, kept, dup, bad in rows}


def _count_in_flight(log: Log, positions: Mapping[int, int], source_id: str) -> Counter[datetime]:
    counts: Counter[datetime] = Counter()
    try:
        with _reading:
            ends = log.end_positions()
            reached = {p: positions.get(p, 0) for p in ends}
            size = 0
            while any(reached[p] < end for p, end in ends.items()):
                records = log.read(reached, max_bytes=_CHUNK_BYTES, wait_seconds=1)
                if not records:
                    break
                for record in records:
                    reached[record.partition] = record.offset + 1
                    size += len(record.value)
                    counts.update(_minutes_of(record, source_id))
                if size > _MOST_BYTES:
                    raise Unavailable("too_far_behind", "too much is in flight", retry_after=30)
    except LogUnavailable as error:
        raise Unavailable("log_unavailable", "the log does not answer", retry_after=5) from error
    return counts


def _minutes_of(record: Record, source_id: str) -> Counter[datetime]:
    counts: Counter[datetime] = Counter()
    if record.headers.get("cdp-source") == source_id:
        received: Received = {}
        add_received(record, received)
        for (_, received_at), lines in received.items():
            counts[minute_of(received_at)] += lines
    return counts
