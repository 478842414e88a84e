"""What is sent again after a deletion: the embedded log holds it, so copies are looked for again.

One job gathers what comes, and waits a little, so that a file full of deleted people is one sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from cdp.model import Identifier
from cdp.privacy.jobs_store import Job
from cdp.privacy.traces_store import keep_traces
from cdp.storage.database import Driver

ACTOR = "system"
_REASON = "sent again after a deletion"
_GATHERS_FOR = timedelta(seconds=60)
_RESTS_FOR = timedelta(minutes=10)


def ask_again(
    conn: Driver, names: Iterable[Identifier], messages: Sequence[str], now: datetime
) -> None:
    """Let copies of what was just left out be looked for."""
    job_id = f"prv_again_{int(now.timestamp())}"
    row = conn.execute(
        """SELECT job_id FROM privacy_jobs
            WHERE actor = %s AND status = 'queued' ORDER BY requested_at LIMIT 1 FOR UPDATE""",
        (ACTOR,),
    ).fetchone()
    if row is not None:
        job_id = row[0]
    else:
        conn.execute(
            """INSERT INTO privacy_jobs (job_id, kind, reason, actor, step, identifiers,
                                         requested_at)
               VALUES (%s, 'delete', %s, %s, 'sweep', 0, %s) ON CONFLICT DO NOTHING""",
            (job_id, _REASON, ACTOR, now),
        )
    keep_traces(conn, job_id, names, messages, ())


def is_ripe(job: Job, last_at: datetime | None, now: datetime) -> bool:
    """Whether a job of these has gathered, and rested since the last one, for long enough."""
    if job.actor != ACTOR or job.status != "queued":
        return True
    return job.requested_at + _GATHERS_FOR <= now and (
        last_at is None or last_at + _RESTS_FOR <= now
    )


def read_last_end(conn: Driver) -> datetime | None:
    """Return when the last job of these was done."""
    row = conn.execute(
        "SELECT max(finished_at) FROM privacy_jobs WHERE actor = %s", (ACTOR,)
    ).fetchone()
    return None if row is None else row[0]


def begin(conn: Driver, job_ids: Sequence[str]) -> None:
    """Let what comes from now on be another job's."""
    conn.execute(
        """UPDATE privacy_jobs SET status = 'running', started_at = coalesce(started_at, now())
            WHERE job_id = ANY(%s) AND status = 'queued'""",
        (list(job_ids),),
    )
