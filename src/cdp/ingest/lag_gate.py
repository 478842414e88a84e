"""Whether ingest takes events while the workers are behind. Pure; time is passed in.

A log that grows without end fills its disk, and then nobody's events are safe: it is better to say
"later" in time. Looked at every second beside the requests, which only read the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cdp.errors import Unavailable

_OPEN_AGAIN_AT = 0.9
SHORTEST_WAIT, LONGEST_WAIT = 5, 300
"""Seconds. SDKs give up after a number of tries, so in a long jam only long waits save events."""


class LagGate:
    """Closed while more than ``most_records`` of the log wait for the workers; 0 is no limit."""

    def __init__(self, most_records: int) -> None:
        self._most = most_records
        self._seen: tuple[float, int] | None = None
        self._closed_since: float | None = None
        self.lag = 0
        """Records that waited at the last look."""
        self.retry_after = 0
        """Seconds after which to come again; 0 while events are taken."""

    def require_room(self) -> None:
        """Raise ``Unavailable`` while nothing is taken."""
        if self.retry_after:
            raise Unavailable(
                "log_behind",
                "more events wait than is allowed; send this again later",
                retry_after=self.retry_after,
            )

    def look(self, ends: Mapping[int, int], positions: Mapping[int, int], now: float) -> None:
        """Decide by the ends of the log and how far the workers have come, per partition."""
        self.lag = sum(max(0, end - positions.get(p, 0)) for p, end in ends.items())
        done = sum(positions.values())
        before, self._seen = self._seen, (now, done)
        limit = self._most * (_OPEN_AGAIN_AT if self.retry_after else 1)
        if not self._most or self.lag <= limit:
            self.open()
            return
        if self._closed_since is None:
            self._closed_since = now
        rate = (done - before[1]) / (now - before[0]) if before and now > before[0] else 0.0
        self.retry_after = self._guess_wait(rate, now - self._closed_since)

    def open(self) -> None:
        """Take events again, or as long as nothing is known."""
        self._closed_since = None
        self.retry_after = 0

    def _guess_wait(self, rate: float, lasted: float) -> int:
        """Return the time until there is room at ``rate`` records/s; without any, as it lasted."""
        excess = self.lag - self._most * _OPEN_AGAIN_AT
        wait = excess / rate if rate > 0 else max(2 * SHORTEST_WAIT, lasted)
        return math.ceil(min(LONGEST_WAIT, max(SHORTEST_WAIT, wait)))
