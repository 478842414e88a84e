"""How often it is looked at everybody, or through a whole column, because time passes. Pure.

What costs much rests long: events must not wait for the passing of time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from cdp.segments.definitions import UnitName
from cdp.segments.refresh_plan import EARLIEST, Evaluation, find_due_for_time

_MOST_SECONDS_FOR_TIME = 1.0
# Of a unit that must be evaluated for everybody because time passes: how long it rests for each
# second that it takes.
_REST = 20
# What is found by reading columns rests as long for each second, but no longer than this.
_LONGEST_REST = timedelta(days=1)
_SHORTEST_PAUSE = timedelta(seconds=0.25)
# Where nothing moves with time; what is dated in the future still comes true.
_STANDSTILL = timedelta(seconds=15)


class Pace:
    """What was looked at when, and how long it took. Used by one thread."""

    def __init__(self, interval: timedelta) -> None:
        """``interval``: how often it is looked at whom time alone has moved."""
        self._interval = interval
        self._evaluated_at: dict[UnitName, datetime] = {}
        self._seconds: dict[UnitName, float] = {}
        self._next_due: datetime | None = None
        self._scanned_at: datetime | None = None
        self._scanning: datetime | None = None
        self._scan_seconds = 0.0
        self._is_rest_over = False

    def end_rest(self) -> None:
        """Let everything be due at the next refresh."""
        self._is_rest_over = True

    def is_time_due(self, now: datetime) -> bool:
        """Whether rules that move with time are to be evaluated again."""
        return self._next_due is None or now >= self._next_due

    # ── Columns that are read through ───────────────────────────────────────────────────────────

    def begin(self) -> None:
        """A refresh begins, of which nothing is committed yet."""
        self._scanning = None

    def commit(self) -> None:
        """Only what is committed counts as looked at."""
        self._scanned_at = self._scanning or self._scanned_at

    def find_scanned_at(self, since: datetime) -> datetime:
        """Return up to when columns were read through; ``since``: when any rule was evaluated."""
        # An evaluator before this one may have rested up to its last evaluation.
        return self._scanned_at or max(since - _LONGEST_REST, EARLIEST)

    def is_scan_due(self, scanned_at: datetime, now: datetime) -> bool:
        """Whether they are to be read again."""
        if self._is_rest_over:
            return True
        resting = _REST * timedelta(seconds=self._scan_seconds)
        return now - scanned_at >= min(max(self._interval, resting), _LONGEST_REST)

    def note_scan(self, now: datetime, seconds: float) -> None:
        """They were read up to ``now``, if this refresh is committed."""
        self._scan_seconds = seconds
        self._scanning = now

    # ── Units that are evaluated for everybody ──────────────────────────────────────────────────

    def note_whole(self, name: UnitName, seconds: float) -> None:
        """A unit was evaluated for everybody in so many seconds."""
        self._seconds[name] = seconds

    def choose_due(self, names: Iterable[UnitName], now: datetime) -> list[UnitName]:
        """Return those of ``names`` whose rest is over, as many as fit into a moment, at least one.

        The others come next, being the longest due then.
        """
        due = find_due_for_time(names, self._evaluated_at, now, self._find_interval)
        if self._is_rest_over:
            self._is_rest_over = False
            return due
        chosen: list[UnitName] = []
        seconds = 0.0
        for name in due:
            seconds += self._seconds.get(name, 0.0)
            if chosen and seconds > _MOST_SECONDS_FOR_TIME:
                break
            chosen.append(name)
        return chosen

    def schedule(
        self,
        plan: Iterable[Evaluation],
        now: datetime,
        *,
        incomplete: Collection[UnitName],
        is_moving: bool,
        moments: Iterable[datetime | None],
        next_move: datetime | None,
    ) -> None:
        """Note what was evaluated for everybody, and when time is to be looked at again.

        ``incomplete`` units must be evaluated for everybody from time to time; ``is_moving``: time
        alone may change anything; ``moments`` and ``next_move`` are other times to look at.
        """
        done = {each.definition.name: now for each in plan if each.whole}
        known = {**self._evaluated_at, **done}
        self._evaluated_at = {name: at for name, at in known.items() if name in incomplete}
        self._next_due = now + (self._interval if is_moving else _STANDSTILL)
        if next_move is not None:
            next_move = max(next_move, now + _SHORTEST_PAUSE)
        for moment in (*moments, next_move):
            if moment is not None:
                self._next_due = min(self._next_due, moment)

    def _find_interval(self, name: UnitName) -> timedelta:
        """Return how often a unit is evaluated for everybody: never so often that it fills time."""
        if self._is_rest_over:
            return timedelta()
        return max(self._interval, _REST * timedelta(seconds=self._seconds.get(name, 0.0)))
