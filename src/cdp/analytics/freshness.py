"""Up to which time is every accepted event in DuckDB? Pure: times and positions are passed in.

An event that was acknowledged before a look at the log's ends lies below those ends. So once
everything below them is applied, everything accepted up to the look is in. That holds under
constant load too, and for as many partitions, workers and clocks behind the log as there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

Ends = Mapping[int, int]


class Freshness:
    """One look at the log at a time: taken, waited for, then the next."""

    def __init__(self) -> None:
        self._time: datetime | None = None
        self._log = ""
        self._ends: Ends = {}

    def wants_look(self) -> bool:
        """Whether the last look has been reached, so that another one says something new."""
        return self._time is None

    def look(self, time: datetime, log: str, ends: Ends) -> None:
        """Take down where ``log`` ended; ``time`` is from before it was asked."""
        self._time, self._log, self._ends = time, log, ends

    def reached(self, positions: Mapping[str, Ends]) -> datetime | None:
        """Return the time of the last look if ``positions`` have come to it; it is used up then."""
        if self._time is None:
            return None
        applied = positions.get(self._log, {})
        if any(applied.get(partition, 0) < end for partition, end in self._ends.items()):
            return None
        time, self._time = self._time, None
        return time
