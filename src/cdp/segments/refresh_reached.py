"""How far memberships and tag values have come, for whoever waits for it, in any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from cdp.errors import Unavailable
from cdp.segments.mirror_engine import NOTHING_APPLIED, Applied

BUSY_PAUSE = 0.02
"""Seconds between two looks at whether another evaluator has finished."""

_Found = TypeVar("_Found")

Outcome = Literal["refreshed", "nothing_to_do", "behind", "busy"]


class Engine(Protocol):
    """What a refresh needs of the analytics engine: the single writer's transaction."""

    def write(self) -> Any: ...

    def applied_seq(self) -> int: ...

    def as_of(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one refresh came to."""

    outcome: Outcome
    """``behind``: DuckDB has not come as far as the ledger; ``busy``: another evaluator works."""
    reached: Applied
    """The batch up to which memberships and tag values are now true, and what that means."""
    changes: int = 0
    evaluated: int = 0


class Reached:
    """The newest batch up to which everything is evaluated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._moved = threading.Condition()
        self.newest = NOTHING_APPLIED

    def note(self, result: Refreshed) -> None:
        """Tell those who wait what a refresh came to."""
        with self._moved:
            if result.outcome != "behind" and result.reached.seq >= self.newest.seq:
                self.newest = result.reached
                self._moved.notify_all()

    def positions(self, log: str) -> dict[int, int]:
        """Return, per partition of ``log``, the offset below which everything is evaluated."""
        return dict(self.newest.positions.get(log, {}))

    def as_of(self) -> datetime | None:
        """The time up to which every event is in memberships and tag values."""
        as_of = self._engine.as_of()
        return as_of if self.newest.seq >= self._engine.applied_seq() else self.newest.as_of

    def wait_for(self, seq: int, seconds: float) -> bool:
        """Wait until everything up to the batch ``seq`` is evaluated; return whether it is."""
        with self._moved:
            return self._moved.wait_for(lambda: self.newest.seq >= seq, seconds)


def insist(attempt: Callable[[], _Found | None], seconds: float) -> _Found:
    """Attempt until something is found. Raises ``Unavailable`` when it takes too long."""
    end = time.monotonic() + seconds
    while True:
        found = attempt()
        if found is not None:
            return found
        if time.monotonic() > end:
            raise Unavailable("busy", "segments are being evaluated; try again soon")
        time.sleep(BUSY_PAUSE)
