"""Who asked that DuckDB be fed anew, and how far each file has come, in Postgres.

The question outlives the process that was asked; each file answers it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cdp.access.audit_store import record
from cdp.storage.database import Driver

State = Literal["waiting", "emptying", "feeding", "done"]

_LOCK = 7263553


@dataclass(frozen=True, slots=True)
class Run:
    """One file, being fed anew."""

    place: str
    state: State
    batches: int
    batches_total: int
    """That there were when it began."""
    started_at: datetime
    finished_at: datetime | None

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.batches / self.batches_total) if self.batches_total else 0.0


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The newest question, and the files that have begun to answer it, by their place."""

    rebuild_no: int
    actor: str
    asked_at: datetime
    runs: dict[str, Run]

    def state_at(self, place: str) -> State:
        """Return how far the file at ``place`` is."""
        run = self.runs.get(place)
        return "waiting" if run is None else run.state


def ask(conn: Driver, place: str, actor: str) -> Rebuild:
    """Ask every file to be fed anew; return the question.

    One that the file at ``place`` has not answered yet is not asked once more.
    """
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    standing = find_newest(conn)
    if standing is not None and standing.state_at(place) != "done":
        return standing
    conn.execute("INSERT INTO analytics_rebuilds (actor) VALUES (%s)", (actor,))
    asked = find_newest(conn)
    assert asked is not None
    record(conn, actor, "analytics_rebuild_asked", str(asked.rebuild_no))
    return asked


def find_newest(conn: Driver) -> Rebuild | None:
    """Return the newest question, or ``None`` when nobody ever asked."""
    row = conn.execute(
        """SELECT rebuild_no, actor, asked_at FROM analytics_rebuilds
            ORDER BY rebuild_no DESC LIMIT 1"""
    ).fetchone()
    if row is None:
        return None
    runs = conn.execute(
        """SELECT place, state, batches, batches_total, started_at, finished_at
             FROM analytics_rebuild_runs WHERE rebuild_no = %s ORDER BY place""",
        (row[0],),
    ).fetchall()
    return Rebuild(row[0], row[1], row[2], {run[0]: Run(*run) for run in runs})


def note_run(conn: Driver, rebuild_no: int, place: str, state: State, batches: int) -> int:
    """Write how far a file has come; return how many batches there were when it began."""
    row = conn.execute(
        """INSERT INTO analytics_rebuild_runs AS r
                  (rebuild_no, place, state, batches, batches_total, finished_at)
           VALUES (%(rebuild)s, %(place)s, %(state)s, %(batches)s,
                   coalesce((SELECT next_seq - 1 FROM batch_head), 0),
                   CASE WHEN %(state)s = 'done' THEN now() END)
           ON CONFLICT (rebuild_no, place) DO UPDATE
              SET state = excluded.state, batches = excluded.batches,
                  finished_at = excluded.finished_at
           RETURNING batches_total""",
        {"rebuild": rebuild_no, "place": place, "state": state, "batches": batches},
    ).fetchone()
    assert row is not None
    return int(row[0])
