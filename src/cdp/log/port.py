"""What ingest and the worker need of a log, in the exact words used everywhere else.

A log has ``partitions``, numbered from 0. A *record* has an *offset*: gapless within its
partition from the reader's point of view, in commit order. A *position* is the offset of the next
record to read, so "everything below the position is done".

Who reads which partition, and how far, is kept in Postgres with the effects (see
``cdp.storage.positions`` and ``cdp.log.leases``); a log only appends and reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class LogUnavailable(Exception):
    """The log cannot take or give records now. Nothing was half appended as far as is known;

    what may have been appended all the same is a duplicate when it is sent again.
    """


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append. ``key`` is a hint for other consumers; ``partition`` decides."""

    partition: int
    key: bytes | None
    headers: Mapping[str, str]
    value: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read."""

    partition: int
    offset: int
    written_at: datetime
    headers: Mapping[str, str]
    value: bytes


class Log(Protocol):
    """An ordered, durable buffer. All methods are thread-safe except ``read``."""

    @property
    def name(self) -> str:
        """What positions are kept under, such as ``postgres`` or ``kafka:<cluster>:<topic>``."""
        ...

    @property
    def partitions(self) -> int: ...

    def append(self, records: Sequence[NewRecord]) -> Future[list[int]]:
        """Append ``records``; the future gives their offsets once they would survive ``kill -9``.

        Order per partition is the order of calls. The future raises ``LogUnavailable`` in a
        bounded time when the log is away.
        """
        ...

    def read(
        self, positions: Mapping[int, int], *, max_bytes: int, wait_seconds: float
    ) -> list[Record]:
        """Return the next records of the given partitions from the given positions.

        Waits up to ``wait_seconds`` when there is none. At least one record is returned when one
        exists, however large. A position below the oldest kept record reads from the oldest.
        Raises ``LogUnavailable``. To be called from one thread at a time.
        """
        ...

    def end_positions(self) -> dict[int, int]:
        """Return, per partition, the position after the newest record (for lag)."""
        ...

    def drop_before(self, written_before: datetime, positions: Mapping[int, int]) -> int:
        """Forget whole old segments below ``positions``; return how many. Kafka answers 0."""
        ...

    def check(self) -> None:
        """Return when the log answers; raise ``LogUnavailable`` with the reason otherwise."""
        ...

    def close(self) -> None:
        """Wait for appends under way, then let go of every resource."""
        ...
