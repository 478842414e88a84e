"""Tags by SQL: what a definition may say, and when a query is to be run again. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from cdp.errors import Unprocessable

LONGEST_SQL = 100_000
REST = 20
"""For each second that a query takes, how many it rests."""
RETRY_AFTER = timedelta(minutes=1)

_READS_LEDGER = re.compile(r"\b(memberships|membership_changes|tags|segments)\b", re.IGNORECASE)
_READS_CLOCK = re.compile(
    r"\b(now|today|random|uuid|\w*current_(date|time|timestamp)|local(time|timestamp)"
    r"|transaction_timestamp|age)\b",
    re.IGNORECASE,
)


class SqlFailed(Exception):
    """A query did not give values; ``code`` says what happened, ``message`` in words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class SqlValues(NamedTuple):
    """What a query is to give, and what it may read."""

    type: str = "text"
    is_masked: bool = False
    """It reads tables with masks over personal values."""


class TagQueries(Protocol):
    """What runs the SQL of tags, over the tables that people query."""

    def check(self, sql: str, type: str | None) -> str:
        """Return the type of the values of a query; raises ``Unprocessable`` at /definition/sql

        when it may not run, or gives values of another ``type``.
        """
        ...

    def run(self, sql: str, values: SqlValues) -> pa.Table:
        """Return ``profile_no`` and ``value`` (JSON text) of everybody with a value.

        Raises ``SqlFailed``.
        """
        ...


def read_sql(document: Any) -> str:
    """Return the query of a definition that was posted at /definition."""
    sql = document["sql"]
    if not isinstance(sql, str) or not sql.strip():
        raise Unprocessable("bad_value", "sql is a SELECT", path="/definition/sql")
    if len(sql) > LONGEST_SQL:
        message = f"a query has up to {LONGEST_SQL} characters"
        raise Unprocessable("bad_value", message, path="/definition/sql")
    return sql


@dataclass(frozen=True, slots=True)
class SqlClock:
    """When one tag's query was run, and when it may and should be run again."""

    sql: str
    seq: int = -1
    """Up to which batch the query had seen everything; -1: it has not been run."""
    change_no: int = -1
    """… and up to which change of memberships and tag values."""
    rests_until: datetime | None = None
    ran_at: datetime | None = None
    has_failed: bool = False
    is_awaited: bool = False
    """Somebody's hold is over, or the result was lost."""

    def is_stale(self, seq: int, change_no: int, now: datetime, interval: timedelta) -> bool:
        """Whether the query may give something else than it gave."""
        if self.ran_at is None or self.is_awaited or self.seq < seq or self.has_failed:
            return True
        if _READS_LEDGER.search(self.sql) and self.change_no < change_no:
            return True
        return bool(_READS_CLOCK.search(self.sql)) and now - self.ran_at >= interval

    def is_resting(self, now: datetime) -> bool:
        """Whether it is too early to run it again."""
        return self.rests_until is not None and now < self.rests_until

    def note_run(
        self, *, seq: int, change_no: int, now: datetime, seconds: float, has_failed: bool
    ) -> SqlClock:
        """Return the clock after a run that began at ``now`` and took ``seconds``."""
        rest = REST * timedelta(seconds=seconds)
        if has_failed:
            rest = max(rest, RETRY_AFTER)
        return replace(
            self, seq=seq, change_no=change_no, ran_at=now, rests_until=now + rest,
            has_failed=has_failed, is_awaited=False,
        )  # fmt: skip
