"""What a computation reads from: DuckDB inside the writer's transaction, an instant, a population.

Everything is read set by set, and comes out as Arrow columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from cdp.segments.builtins.figures import Numbers, Whole
from cdp.segments.mirror_engine import Duck, fetch

EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Source:
    """Over whom, when, and in what money a built-in tag is computed."""

    duck: Duck
    now: datetime
    """Nothing later is seen."""
    as_of: datetime
    """The snapshot: later orders are left out."""
    timezone: str
    currency: str
    """The workspace's."""
    is_restricted: bool
    """Only the profiles in the relation ``scope(profile_no)``."""
    find_holders: Callable[[Any], Whole]
    """From a rule document to the profiles for which it holds, of those looked at."""

    @property
    def until(self) -> datetime:
        """The last instant that is seen."""
        return min(self.now, self.as_of)

    @property
    def today(self) -> int:
        """The snapshot's date in the workspace's time zone, in days since 1970."""
        local = self.as_of.astimezone(ZoneInfo(self.timezone))
        return (local.replace(tzinfo=None) - EPOCH).days

    @property
    def owners(self) -> str:
        """The relation that says whose a node's facts are, by their time."""
        among = " SEMI JOIN scope USING (profile_no)" if self.is_restricted else ""
        return f"(SELECT node_id, since, until, profile_no FROM core.node_profiles{among})"

    def select(self, sql: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the rows of a SELECT."""
        return fetch(self.duck, sql, dict(params or {}) or None)

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Run a statement."""
        self.duck.execute(sql, dict(params or {}) or None)


def numbers(table: pa.Table, name: str) -> Numbers:
    """Return a column as doubles; null is NaN."""
    column = table[name].combine_chunks().cast(pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def whole(table: pa.Table, name: str) -> Whole:
    """Return a column without nulls as whole numbers."""
    return np.asarray(table[name].to_numpy(), dtype=np.int64)


def read_as_of(text: str, timezone: str) -> datetime:
    """Return the instant that a checked ``as_of`` names: of a date alone the end of that day."""
    if len(text) == len("2026-03-01"):
        day = datetime.fromisoformat(text)
        end = day.replace(hour=23, minute=59, second=59, microsecond=999_999)
        return end.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
    time = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
