"""Read the next records while the last ones are being committed: Python beside the database."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from cdp.batch import Batch
from cdp.log.port import Log, Record
from cdp.read_batch import FindSource, read_batch
from cdp.read_posted import Identify


class Reading(NamedTuple):
    """Records from ``positions`` on, and the batch that they make."""

    positions: Mapping[int, int]
    records: list[Record]
    batch: Batch


class ReadAhead:
    """One thread that reads: the only one that reads this log."""

    def __init__(
        self,
        log: Log,
        find_source: FindSource,
        identify: Identify,
        *,
        max_bytes: int,
        currency: str = "CNY",
    ) -> None:
        self._log = log
        self._find_source = find_source
        self._identify = identify
        self._max_bytes = max_bytes
        self._currency = currency
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._next: tuple[Mapping[int, int], Future[Reading]] | None = None

    def take(self, positions: Mapping[int, int], wait_seconds: float) -> Reading:
        """Return what comes at ``positions``, and start to read what comes after it.

        Waits about ``wait_seconds`` when there is nothing. Raises ``LogUnavailable``.
        """
        started = self._next
        self._next = None
        if started is not None and started[0] == positions:
            reading = started[1].result()
        else:
            reading = self._start(positions, wait_seconds).result()
        if reading.records:
            after = {**positions, **{p: end for p, (_, end) in reading.batch.moves.items()}}
            self._next = (after, self._start(after, wait_seconds))
        return reading

    def close(self) -> None:
        """Wait for the reading under way, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _start(self, positions: Mapping[int, int], wait_seconds: float) -> Future[Reading]:
        return self._thread.submit(self._read, positions, wait_seconds)

    def _read(self, positions: Mapping[int, int], wait_seconds: float) -> Reading:
        records = self._log.read(positions, max_bytes=self._max_bytes, wait_seconds=wait_seconds)
        batch = read_batch(
            self._log.name,
            records,
            positions,
            self._find_source,
            self._identify,
            currency=self._currency,
        )
        return Reading(positions, records, batch)
