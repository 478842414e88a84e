"""Searches for suggestions in Postgres: wished for, under way, ended."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.storage.database import Driver

RUN_LOCK = 7263561
"""The advisory lock that whoever searches holds, on a connection of its own."""
MOST_ATTEMPTS = 3
"""A search that ends its process this often is not begun again."""
_COLUMNS = """run_id, state, actor, requested_at, started_at, finished_at, attempts, phase, seq,
              people, pairs, suggestions, model, error_code, error_message"""


@dataclass(frozen=True, slots=True)
class Run:
    """One search."""

    run_id: str
    state: str
    actor: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    phase: str | None
    seq: int | None
    people: int | None
    pairs: int | None
    suggestions: int | None
    model: str | None
    error_code: str | None
    error_message: str | None

    @property
    def is_under_way(self) -> bool:
        """Whether it is still to end."""
        return self.state in ("queued", "running")


def find_newest(conn: Driver) -> Run | None:
    """Return the newest search, or ``None`` when there was none."""
    row = conn.execute(
        f"SELECT {_COLUMNS} FROM identity_suggestion_runs ORDER BY run_no DESC LIMIT 1"
    ).fetchone()
    return None if row is None else Run(*row)


def find_waiting(conn: Driver) -> Run | None:
    """Return the search that is to be done or was left by somebody, or ``None``."""
    row = conn.execute(
        f"""SELECT {_COLUMNS} FROM identity_suggestion_runs
             WHERE state IN ('queued', 'running') ORDER BY run_no LIMIT 1"""
    ).fetchone()
    return None if row is None else Run(*row)


def ask_for_run(conn: Driver, actor: str, now: datetime) -> tuple[Run, bool]:
    """Return the search under way, or a new one, and whether it is new."""
    conn.execute("LOCK TABLE identity_suggestion_runs IN SHARE ROW EXCLUSIVE MODE")
    waiting = find_waiting(conn)
    if waiting is not None:
        return waiting, False
    conn.execute(
        """INSERT INTO identity_suggestion_runs (run_id, actor, requested_at)
           VALUES (%s, %s, %s)""",
        (f"run_{secrets.token_hex(8)}", actor, now),
    )
    newest = find_newest(conn)
    assert newest is not None
    return newest, True


def read_seq(conn: Driver) -> int:
    """Return the newest batch: what can have changed since a search, has a later one."""
    row = conn.execute("SELECT coalesce(max(next_seq) - 1, 0) FROM batch_head").fetchone()
    assert row is not None
    return int(row[0])


def begin(conn: Driver, run_id: str, now: datetime) -> None:
    """Say that a search is done now, once more if it was left."""
    conn.execute(
        """UPDATE identity_suggestion_runs
              SET state = 'running', started_at = %s, attempts = attempts + 1, phase = 'reading',
                  seq = %s
            WHERE run_id = %s""",
        (now, read_seq(conn), run_id),
    )


def tell_phase(conn: Driver, run_id: str, phase: str, people: int) -> bool:
    """Say how far a search is; return whether it is still wanted."""
    row = conn.execute(
        """UPDATE identity_suggestion_runs SET phase = %s, people = %s
            WHERE run_id = %s AND state = 'running' RETURNING 1""",
        (phase, people, run_id),
    ).fetchone()
    return row is not None


def put_back(conn: Driver, run_id: str) -> None:
    """Leave a search to be begun anew, by a process that ends in order."""
    conn.execute(
        """UPDATE identity_suggestion_runs SET state = 'queued', attempts = 0, phase = NULL
            WHERE run_id = %s AND state = 'running'""",
        (run_id,),
    )


def cancel(conn: Driver, now: datetime) -> Run | None:
    """End the search under way; return it, or ``None`` when there is none."""
    waiting = find_waiting(conn)
    if waiting is None:
        return None
    finish(conn, waiting.run_id, "cancelled", now)
    return find_newest(conn)


def finish(conn: Driver, run_id: str, state: str, now: datetime, **found: Any) -> bool:
    """Say how a search ended; return whether it was still wanted.

    ``found``: people, pairs, suggestions, model, error_code, error_message.
    """
    names = ("people", "pairs", "suggestions", "model", "error_code", "error_message")
    assert found.keys() <= set(names)
    sets = "".join(f", {name} = %({name})s" for name in found)
    row = conn.execute(
        f"""UPDATE identity_suggestion_runs
               SET state = %(state)s, finished_at = %(now)s, phase = NULL{sets}
             WHERE run_id = %(run_id)s AND state IN ('queued', 'running') RETURNING 1""",
        {"state": state, "now": now, "run_id": run_id, **found},
    ).fetchone()
    return row is not None
