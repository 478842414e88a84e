"""The follower: one thread of the api process that keeps DuckDB, segments and tags up to date.

    batches in Postgres ─► feed: DuckDB ─► refresh: memberships and tag values ─► and again

Postgres says when there is something to do; between batches the clock does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from cdp.runtime.clock import format_time
from cdp.runtime.clock import now as clock_now
from cdp.runtime.logs import get_logger
from cdp.segments.refresh_reached import Refreshed

_log = get_logger(__name__)

_IDLE_SECONDS = 1.0
# While the feed works off a backlog: every state in between is past, but nobody waits for ever.
_BACKLOG_SECONDS = 2.0
_SHORTEST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0


class Step(Protocol):
    """What the follower needs to know of a step of the feed."""

    @property
    def batches(self) -> int: ...

    @property
    def is_caught_up(self) -> bool: ...


class Feeder(Protocol):
    """``cdp.analytics.feed.Feed``."""

    def step(self, wait_seconds: float) -> Step: ...


class Evaluator(Protocol):
    """``cdp.segments.refresh.Refresher``."""

    def refresh(self, now: datetime) -> Refreshed: ...

    def is_time_due(self, now: datetime) -> bool: ...


@dataclass(frozen=True, slots=True)
class FollowerState:
    """What health, status and metrics show."""

    running: bool = False
    fed_at: datetime | None = None
    refreshed_at: datetime | None = None
    outcome: str | None = None
    refresh_seconds: float = 0.0
    changes: int = 0
    """Changes of memberships and tag values since the start."""
    failures: int = 0
    """Failures in a row; 0 when all is well."""
    last_error: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether it runs and its last round succeeded."""
        return self.running and not self.failures

    def show(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return {
            "running": self.running,
            "fed_at": None if self.fed_at is None else format_time(self.fed_at),
            "refreshed_at": None if self.refreshed_at is None else format_time(self.refreshed_at),
            "outcome": self.outcome,
            "refresh_ms": round(self.refresh_seconds * 1000),
            "changes": self.changes,
            "failures": self.failures,
            "last_error": self.last_error,
        }


class Follower(threading.Thread):
    """Feeds and refreshes until it is stopped. Never dies: what fails is said and tried again."""

    def __init__(
        self,
        feed: Feeder,
        refresher: Evaluator,
        *,
        now: Callable[[], datetime] = clock_now,
        after_round: Callable[[FollowerState], None] = lambda _: None,
    ) -> None:
        """``after_round`` is told the state after every round, for metrics."""
        super().__init__(name="follower", daemon=True)
        self._feed = feed
        self._refresher = refresher
        self._now = now
        self._after_round = after_round
        self._stopping = threading.Event()
        self._state = FollowerState()
        # What the feed brought and no refresh has seen yet, because it failed or stood back.
        self._is_pending = True
        self._refreshed_at = float("-inf")

    def run(self) -> None:
        """Follow until ``stop``. Called by ``start``."""
        self._state = replace(self._state, running=True)
        try:
            while not self._stopping.is_set():
                self._round()
        finally:
            self._state = replace(self._state, running=False)

    def stop(self, seconds: float = 20.0) -> bool:
        """Finish the round under way, then end; return whether it ended within ``seconds``."""
        self._stopping.set()
        if self.ident is not None:
            self.join(seconds)
        return not self.is_alive()

    def state(self) -> FollowerState:
        """Return how it goes, from any thread."""
        return self._state

    def check(self) -> str | None:
        """Return what is wrong, in one line, or ``None`` when all is well."""
        state = self._state
        if not state.running:
            return "the follower does not run"
        if state.failures:
            return f"{state.failures} failures in a row, the last one {state.last_error}"
        return None

    def _round(self) -> None:
        try:
            self._follow()
        except Exception as error:
            self._note_failure(error)
        self._after_round(self._state)

    def _follow(self) -> None:
        must_not_wait = self._is_pending or self._refresher.is_time_due(self._now())
        step = self._feed.step(0 if must_not_wait else _IDLE_SECONDS)
        now = self._now()
        self._state = replace(self._state, fed_at=now)
        self._is_pending |= step.batches > 0
        is_in_backlog = step.batches > 0 and not step.is_caught_up
        if is_in_backlog and time.monotonic() - self._refreshed_at < _BACKLOG_SECONDS:
            return
        if self._is_pending or self._refresher.is_time_due(now):
            self._refresh(now)
        self._state = replace(self._state, failures=0)

    def _refresh(self, now: datetime) -> None:
        self._is_pending = True
        started = time.monotonic()
        result = self._refresher.refresh(now)
        self._refreshed_at = time.monotonic()
        # Another evaluator may end without having seen what this process has.
        self._is_pending = result.outcome in ("busy", "behind")
        if self._is_pending:
            self._stopping.wait(_SHORTEST_PAUSE)
        self._state = replace(
            self._state,
            refreshed_at=now,
            outcome=result.outcome,
            refresh_seconds=self._refreshed_at - started,
            changes=self._state.changes + result.changes,
        )

    def _note_failure(self, error: Exception) -> None:
        failures = self._state.failures + 1
        pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(failures - 1, 10))
        reason = type(error).__name__
        _log.error("follower_failed", failures=failures, seconds=pause, exc_info=error)
        self._state = replace(self._state, failures=failures, last_error=reason)
        self._stopping.wait(pause)
