"""Refused events are judged again by today's rules, and those that pass go to the log.

    lock some ─► prepare ─► judge ─► append to the log ─► mark as replayed ─► commit

A crash before the commit leaves them unmarked: they go to the log once more, with the same ids, so
the worker finds duplicates. Two replays at once wait for each other row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cdp.ingest.door import Door
from cdp.ingest.packing import Offsets, RequestLog
from cdp.ingest.prepare_replay import prepare_line
from cdp.ingest.rejected_store import (
    RejectedFilter,
    RejectedRow,
    lock_rejected,
    mark_replayed,
    read_newest,
)
from cdp.log.format import Kind
from cdp.model import Source
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

_MOST_BYTES = 16 * 1024 * 1024

FindSource = Callable[[str], Source | None]


class Posted(NamedTuple):
    """What a delivery amounts to: lines of one kind."""

    kind: Kind
    lines: Sequence[bytes]


class Refused(NamedTuple):
    """Why a row is still refused."""

    number: int
    code: str
    message: str


ReadDelivery = Callable[[Source, RejectedRow], Sequence[Posted] | Refused]
"""Reads the kept bytes of a kind that is no line of its own, such as a shop's delivery."""


@dataclass(slots=True)
class Replay:
    """What came of one call."""

    replayed: list[int] = field(default_factory=list)
    already_replayed: int = 0
    refused: list[Refused] = field(default_factory=list)
    offsets: Offsets = field(default_factory=dict)
    reached: int | None = None
    """The number of the last row looked at, when there may be more; else ``None``."""

    @property
    def reasons(self) -> Counter[str]:
        """Why rows are still refused."""
        return Counter(one.code for one in self.refused)


class Replayer:
    """Judges refused events again. Thread-safe; ``replay`` blocks on Postgres and the log."""

    def __init__(
        self,
        door: Door,
        kinds: Collection[str],
        find_source: FindSource,
        deliveries: Mapping[str, ReadDelivery] | None = None,
    ) -> None:
        """``kinds`` are those that the door takes. ``deliveries`` reads, by kind, what is no line

        of its own.
        """
        self._door = door
        self._kinds = frozenset(kinds)
        self._find_source = find_source
        self._deliveries = deliveries or {}

    def start(self, connection: Driver) -> int:
        """Return the number of the newest row: a replay looks at none that it makes itself."""
        return read_newest(connection)

    def replay(
        self, connection: Driver, wanted: RejectedFilter, *, after: int, until: int, limit: int
    ) -> Replay:
        """Replay the next rows in ``(after, until]``, at most ``limit`` of them and about 16 MB.

        The caller commits. Raises ``Unavailable`` when the log does not acknowledge: then nothing
        may be committed.
        """
        rows = lock_rejected(
            connection, wanted, after=after, until=until, limit=limit, max_bytes=_MOST_BYTES
        )
        result = Replay(reached=rows[-1].number if rows else None)
        requests: list[RequestLog] = []
        for row in rows:
            if row.replayed_at is not None:
                result.already_replayed += 1
                continue
            judged = self._judge(row)
            if isinstance(judged, Refused):
                result.refused.append(judged)
            else:
                requests += judged
                result.replayed.append(row.number)
        if requests:
            result.offsets = self._door.append(requests)
            mark_replayed(connection, result.replayed)
        return result

    def _judge(self, row: RejectedRow) -> list[RequestLog] | Refused:
        source = self._find_source(row.source_id)
        if source is None:
            return Refused(row.number, "unknown_source", "no source has this id any more")
        if row.truncated:
            return Refused(
                row.number, "truncated", "it was too large to be kept whole; send it again"
            )
        read = self._read(source, row)
        if isinstance(read, Refused):
            return read
        requests: list[RequestLog] = []
        for part, posted in enumerate(read):
            judged = self._door.judge(source, posted.kind, posted.lines)
            if judged.rejected:
                first = judged.rejected[0]
                return Refused(row.number, first.code, first.message)
            request = self._door.write(
                source,
                judged,
                request_id=f"replay_{row.number}_{part}",
                received_at=format_time(row.received_at),
                kind=posted.kind,
            )
            requests.append(request._replace(sent_at=row.sent_at))
        return requests

    def _read(self, source: Source, row: RejectedRow) -> Sequence[Posted] | Refused:
        if row.kind in self._deliveries:
            return self._deliveries[row.kind](source, row)
        if row.kind not in self._kinds:
            return Refused(row.number, "cannot_be_replayed", f"nothing reads {row.kind} again")
        kind: Kind = row.kind  # type: ignore[assignment]
        return [Posted(kind, [prepare_line(row)])]
