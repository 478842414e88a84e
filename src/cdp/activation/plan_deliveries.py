"""Look at what changed for a destination, and put what its receiver must be told into the outbox.

    who changed since the last look ─► their rows ─► difference to what was sent ─► outbox

A new or changed destination is also told of everybody, in chunks, while changes go on. How far the
look has come, what the receiver will hold and the outbox are one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from cdp.activation.deliveries_store import (
    count_waiting,
    list_sent_streams,
    note_sent,
    queue_delivery,
    read_sent,
    read_sent_between,
)
from cdp.activation.destination import Destination, Stream
from cdp.activation.destinations_store import advance, read_number
from cdp.activation.difference import Cause, Change, Row, list_changes, show_change
from cdp.storage.database import Driver

T = TypeVar("T")

MOST_WAITING = 100
"""Deliveries that may wait for a receiver; what changes meanwhile is told as one difference."""
_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Head:
    """How far memberships and tags have come where people are read."""

    change_no: int
    seq: int


class People(Protocol):
    """Where rows come from."""

    def read_head(self) -> Head:
        """Return how far what is read has come; rows that are read later have come as far."""

    def read_rows(
        self, destination: Destination, stream: Stream, profiles: Sequence[int]
    ) -> list[Row]:
        """Return the rows of those of ``profiles`` who are in ``stream``."""

    def read_page(
        self, destination: Destination, stream: Stream, after: int, most: int
    ) -> list[Row]:
        """Return up to ``most`` rows of profiles beyond ``after``, in order of their numbers."""

    def list_touched(self, connection: Driver, destination: Destination, head: Head) -> list[int]:
        """Return the profiles of which something changed since the destination's last look."""

    def read_causes(
        self, connection: Driver, stream: Stream, profiles: Sequence[int], after: int, until: int
    ) -> Mapping[int, Cause]:
        """Return why profiles came or went, newest first, in the changes (after, until]."""


def plan_deliveries(
    connection: Driver, destination: Destination, people: People, now: datetime
) -> bool:
    """Queue what ``destination`` must be told; return whether there is more to do at once.

    The caller holds the destination's row. Nothing is queued while too much waits.
    """
    if count_waiting(connection, destination.destination_id) >= MOST_WAITING:
        return False
    head = people.read_head()
    if head.change_no < destination.change_no or head.seq < destination.seq:
        # What is read is being built anew: by it, everybody would seem to have left.
        return False
    outbox = _Outbox(connection, destination, people, head, now)
    touched = people.list_touched(connection, destination, head)
    for chunk in _cut(touched, _CHUNK):
        outbox.compare_some(chunk)
    scan = outbox.scan_on() if destination.scan is not None else None
    if outbox.has_moved(scan):
        advance(
            connection,
            destination.destination_id,
            change_no=head.change_no,
            seq=head.seq,
            scan=scan,
            number=outbox.number,
        )
    return scan is not None


class _Outbox:
    """One look at one destination."""

    def __init__(
        self,
        connection: Driver,
        destination: Destination,
        people: People,
        head: Head,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._destination = destination
        self._people = people
        self._head = head
        self._now = now
        self._first = read_number(connection, destination.destination_id)
        self.number = self._first

    def has_moved(self, scan: Mapping[str, Any] | None) -> bool:
        """Whether there is anything to write down."""
        known = self._destination
        return (
            self.number != self._first
            or scan != known.scan
            or self._head.change_no > known.change_no
            or self._head.seq > known.seq
        )

    def compare_some(self, profiles: Sequence[int]) -> None:
        """Queue what differs for ``profiles``."""
        for stream in self._destination.streams:
            rows = self._people.read_rows(self._destination, stream, profiles)
            sent = read_sent(
                self._connection, self._destination.destination_id, stream.name, profiles
            )
            self._queue(list_changes(stream, rows, sent))

    def scan_on(self) -> dict[str, Any] | None:
        """Queue what differs for the next people of all; return where to go on, if anywhere."""
        scan = self._destination.scan or {}
        index, after = int(scan["stream"]), int(scan["after"])
        streams = self._destination.streams
        if index >= len(streams):
            self._drop_streams()
            return None
        stream = streams[index]
        rows = self._people.read_page(self._destination, stream, after, _CHUNK)
        until = rows[-1].profile_no if len(rows) == _CHUNK else None
        sent = read_sent_between(
            self._connection, self._destination.destination_id, stream.name, after, until
        )
        self._queue(list_changes(stream, rows, sent))
        if until is None:
            return {"stream": index + 1, "after": -1}
        return {"stream": index, "after": until}

    def _drop_streams(self) -> None:
        """Let the receiver forget the sets that the destination has no more."""
        wanted = {stream.name for stream in self._destination.streams}
        destination_id = self._destination.destination_id
        for name in list_sent_streams(self._connection, destination_id):
            if name not in wanted:
                kind, _, key = name.partition(":")
                stream = Stream("segment" if kind == "segment" else "tag", key)
                sent = read_sent_between(self._connection, destination_id, name, -1, None)
                self._queue(list_changes(stream, [], sent))

    def _queue(self, changes: Sequence[Change]) -> None:
        for part in _cut(changes, self._destination.batch_size):
            causes = self._people.read_causes(
                self._connection,
                part[0].stream,
                [change.profile_no for change in part],
                self._destination.change_no,
                self._head.change_no,
            )
            rows = [show_change(one, causes.get(one.profile_no), self._now) for one in part]
            self.number += 1
            queue_delivery(self._connection, self._destination.destination_id, self.number, rows)
            note_sent(self._connection, self._destination.destination_id, part)


def _cut(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
