"""Small words that the contract tests share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cdp.log.port import Log, LogUnavailable, NewRecord, Record

PATIENCE_SECONDS = 60.0


def record(partition: int, value: str | bytes, **headers: str) -> NewRecord:
    data = value.encode() if isinstance(value, str) else value
    return NewRecord(partition, None, headers, data)


def append(log: Log, *records: NewRecord) -> list[int]:
    """Append and wait for the acknowledgement; return the offsets."""
    return log.append(records).result(timeout=PATIENCE_SECONDS)


def read_all(log: Log, positions: Mapping[int, int], *, max_bytes: int = 1 << 20) -> list[Record]:
    """Read from ``positions`` to the end as it is now."""
    ends = log.end_positions()
    at = dict(positions)
    found: list[Record] = []

    def is_done() -> bool:
        for one in log.read(at, max_bytes=max_bytes, wait_seconds=0.2):
            at[one.partition] = one.offset + 1
            found.append(one)
        return all(at[partition] >= ends[partition] for partition in at)

    wait_until(is_done)
    return found


def wait_until(is_true: Callable[[], bool], *, even_when_away: bool = False) -> None:
    """Try until it holds; fail after a long time. Not a measurement: only a bound."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if is_true():
                return
        except LogUnavailable:
            if not even_when_away:
                raise
            time.sleep(0.1)
    raise AssertionError("it did not come true in time")


def values(records: list[Record], partition: int = 0) -> list[str]:
    """The values of one partition, in the order read."""
    return [one.value.decode() for one in records if one.partition == partition]


def from_start(log: Log) -> dict[int, int]:
    return dict.fromkeys(range(log.partitions), 0)
