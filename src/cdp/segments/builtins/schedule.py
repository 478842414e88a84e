"""When a built-in tag is computed for everybody. Pure: time is passed in.

A change of one person may be a change of everybody's cuts, so after each change the whole is
computed again, as long as that takes no more than its share of the time: computing earns seconds
while time passes and pays what it took. In between, touched people are scored by the cuts and
parameters that were last found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from cdp.segments.builtins.registry import Kind, find_kind
from cdp.segments.definitions import Definition, UnitName

MOST_SAVED_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class News:
    """What batches brought that built-in tags look at."""

    has_orders: bool
    has_moves: bool
    """People joined, parted or were erased."""
    has_touched: bool = True
    """Anything happened to anybody."""


class Schedule:
    """Which built-in tags are out of date, and whether there is time to compute them."""

    def __init__(self, share: float, timezone: str) -> None:
        """``share``: of one processor's time, for computing what belongs to everybody."""
        self._share = share
        self._zone = ZoneInfo(timezone)
        self._saved = MOST_SAVED_SECONDS
        self._seen_at: datetime | None = None
        self._stale: set[UnitName] = set()
        self._days: dict[UnitName, date] = {}

    def note(self, definitions: Iterable[Definition], news: News, now: datetime) -> None:
        """Note what happened, and that time has passed."""
        if self._seen_at is not None:
            passed = max(0.0, (now - self._seen_at).total_seconds())
            self._saved = min(MOST_SAVED_SECONDS, self._saved + passed * self._share)
        self._seen_at = now
        today = now.astimezone(self._zone).date()
        known: set[UnitName] = set()
        for definition in definitions:
            kind = find_kind(definition.document)
            if kind is None:
                continue
            known.add(definition.name)
            day = self._days.get(definition.name)
            has_window = "within" in (definition.document.get("settings") or {})
            moves = (kind.moves_daily or has_window) and "as_of" not in definition.document
            if day is None or (moves and day != today) or is_news(kind, news):
                self._stale.add(definition.name)
        self._stale &= known
        self._days = {name: day for name, day in self._days.items() if name in known}

    def mark_stale(self, name: UnitName) -> None:
        """Note that a tag, a segment or a fact that a tag looks at has changed."""
        self._stale.add(name)

    def list_due(self) -> list[UnitName]:
        """Return what is to be computed for everybody now."""
        return sorted(self._stale) if self._saved > 0 else []

    def seconds_to_wait(self) -> float | None:
        """Return in how many seconds something is due; ``None`` when nothing is."""
        if not self._stale:
            return None
        return max(0.0, -self._saved / self._share) if self._saved <= 0 else 0.0

    def pay(self, name: UnitName, seconds: float, now: datetime) -> None:
        """Note that a tag was computed for everybody, in ``seconds``."""
        self._saved -= seconds
        self._stale.discard(name)
        self._days[name] = now.astimezone(self._zone).date()


def is_news(kind: Kind, news: News) -> bool:
    """Whether what happened can change values of a built-in of this kind."""
    if "events" in kind.reads or "profiles" in kind.reads:
        return news.has_touched or news.has_moves
    return news.has_orders or news.has_moves
