"""What became of every element that was delivered, per source and minute of receipt.

``received = stored + duplicate + rejected + in_flight``, where the first three are counted in the
transaction that works events off, and ``in_flight`` is read from the log behind the positions of
that very moment. What could not be processed (dead letters) makes a minute that does not balance.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from cdp.errors import Unavailable
from cdp.log.port import Log, LogUnavailable, Record
from cdp.runtime.clock import parse_time
from cdp.storage.database import Database, Driver, driver
from cdp.storage.positions import read_positions

_CHUNK_BYTES = 8 * 1024 * 1024
_MOST_BYTES = 256 * 1024 * 1024

_decode_requests = msgspec.json.Decoder(list[tuple[str, str, str | None, int]]).decode
# ``Log.read`` takes one caller at a time.
_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Minute:
    """What was received in one minute, and what became of it."""

    minute: datetime
    stored: int
    duplicate: int
    rejected: int
    in_flight: int
    dead: int

    @property
    def received(self) -> int:
        """Every delivered element."""
        return self.stored + self.duplicate + self.rejected + self.in_flight + self.dead

    @property
    def balanced(self) -> bool:
        """Whether everything received is stored, a duplicate, rejected or on its way."""
        return self.dead == 0


def read_accounting(
    database: Database,
    log: Log,
    source_id: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Minute]:
    """Return the minutes of a source in ``[since, until)``, oldest first.

    Raises ``Unavailable`` when the log does not answer, or too much is in flight to be counted.
    """
    with database.snapshot() as connection:
        raw = driver(connection)
        counted = _read_counted(raw, source_id)
        dead = _read_dead(raw, source_id)
        positions = read_positions(raw, log.name)
    in_flight = _count_in_flight(log, positions, source_id)
    return [
        Minute(minute, *counted.get(minute, (0, 0, 0)), in_flight[minute], dead[minute])
        for minute in sorted(counted.keys() | in_flight.keys() | dead.keys())
        if (since is None or minute >= since) and (until is None or minute < until)
    ]


def _read_counted(connection: Driver, source_id: str) -> dict[datetime, tuple[int, int, int]]:
    rows = connection.execute(
        "SELECT minute, stored, duplicate, rejected FROM accounting WHERE source_id = %s",
        (source_id,),
    )
    return {minute.astimezone(UTC): (stored, dup, bad) for minute, stored, dup, bad in rows}


def _read_dead(connection: Driver, source_id: str) -> Counter[datetime]:
    rows = connection.execute(
        """SELECT ordinal, headers ->> 'cdp-requests' FROM dead_letters
            WHERE headers ->> 'cdp-source' = %s""",
        (source_id,),
    ).fetchall()
    dead: Counter[datetime] = Counter()
    for ordinal, requests in rows:
        minutes = _read_minutes(requests)
        if ordinal is None:
            dead.update(minutes)
        elif ordinal < len(minutes):
            dead[minutes[ordinal]] += 1
    return dead


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


def _minutes_of(record: Record, source_id: str) -> list[datetime]:
    if record.headers.get("cdp-source") != source_id:
        return []
    return _read_minutes(record.headers.get("cdp-requests"))


def _read_minutes(requests: str | None) -> list[datetime]:
    """Return the minute of receipt of each line of a record."""
    try:
        found = _decode_requests(requests or "[]")
    except msgspec.DecodeError:
        return []
    minutes: list[datetime] = []
    for _, received_at, _, count in found:
        time = parse_time(received_at)
        if time is not None:
            minutes += [time.replace(second=0, microsecond=0)] * count
    return minutes
