"""What was asked of privacy and how far it is, in Postgres: so whoever is killed is continued."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from cdp.model import Identifier
from cdp.storage.database import Driver
from cdp.storage.tombstones_store import hash_identifier

Kind = Literal["delete", "export", "suppress", "unsuppress"]
KINDS: tuple[Kind, ...] = ("delete", "export", "suppress", "unsuppress")
FIRST_STEP = "erase"
PARTS = "parts"
"""Where a receipt names the parts of tables; nobody is shown them."""
_COLUMNS = """job_id, kind, reason, actor, status, step, identifiers, seq, receipt, waiting,
              requested_at, started_at, finished_at, archive_removed_at"""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing that was asked, for one identifier or a list of them."""

    job_id: str
    kind: Kind
    reason: str
    actor: str
    status: str
    """queued, running or done."""
    step: str
    identifiers: int
    seq: int | None
    """The batch by which followers learn of it."""
    receipt: dict[str, Any]
    waiting: str | None
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    archive_removed_at: datetime | None


def add_job(
    conn: Driver,
    kind: Kind,
    identifiers: Sequence[Identifier],
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> str:
    """Ask for something; return the job's id."""
    job_id = f"prv_{secrets.token_hex(12)}"
    _insert_job(conn, job_id, kind, len(identifiers), reason=reason, actor=actor, at=now)
    conn.execute(
        """INSERT INTO privacy_requests (request_id, kind, identifier_type, identifier_value,
                                         reason, source_id, message_id, requested_at, job_id)
           SELECT %s || '/' || ordinal, %s, type, value, '', '', '', %s, %s
             FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS t (type, value, ordinal)""",
        (
            job_id,
            kind,
            now,
            job_id,
            [one.type for one in identifiers],
            [one.value for one in identifiers],
        ),
    )
    return job_id


def adopt_requests(conn: Driver, *, limit: int = 1000) -> int:
    """Make a job of each request that a shop made; return how many."""
    rows = conn.execute(
        """SELECT request_id, kind, reason, source_id, requested_at FROM privacy_requests
            WHERE job_id IS NULL AND status = 'queued'
            ORDER BY requested_at LIMIT %s FOR UPDATE SKIP LOCKED""",
        (limit,),
    ).fetchall()
    for request_id, kind, reason, source_id, at in rows:
        _insert_job(conn, request_id, kind, 1, reason=reason, actor=f"source:{source_id}", at=at)
        conn.execute(
            "UPDATE privacy_requests SET job_id = request_id WHERE request_id = %s", (request_id,)
        )
    return len(rows)


def _insert_job(
    conn: Driver, job_id: str, kind: str, count: int, *, reason: str, actor: str, at: datetime
) -> None:
    conn.execute(
        """INSERT INTO privacy_jobs (job_id, kind, reason, actor, step, identifiers, requested_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        (job_id, kind, reason, actor, FIRST_STEP, count, at),
    )


def find_job(conn: Driver, job_id: str) -> Job | None:
    """Return a job, or ``None``."""
    row = conn.execute(
        f"SELECT {_COLUMNS} FROM privacy_jobs WHERE job_id = %s", (job_id,)
    ).fetchone()
    return None if row is None else Job(*row)


def list_jobs(conn: Driver, *, limit: int, before: tuple[datetime, str] | None = None) -> list[Job]:
    """Return jobs, newest first, from past ``before`` (requested at, id)."""
    at, job_id = before or (None, None)
    rows = conn.execute(
        f"""SELECT {_COLUMNS} FROM privacy_jobs
             WHERE %(at)s::timestamptz IS NULL
                OR (requested_at, job_id) < (%(at)s::timestamptz, %(id)s::text)
             ORDER BY requested_at DESC, job_id DESC LIMIT %(limit)s""",
        {"at": at, "id": job_id, "limit": limit},
    )
    return [Job(*row) for row in rows]


def list_open(conn: Driver, *, limit: int = 200) -> list[Job]:
    """Return the jobs that are not done, oldest first."""
    rows = conn.execute(
        f"""SELECT {_COLUMNS} FROM privacy_jobs WHERE status <> 'done'
             ORDER BY requested_at, job_id LIMIT %s""",
        (limit,),
    )
    return [Job(*row) for row in rows]


def list_queued(conn: Driver, job_id: str, *, limit: int) -> list[tuple[str, Identifier]]:
    """Return the next identifiers of a job that nothing was done about, with their request."""
    rows = conn.execute(
        """SELECT request_id, identifier_type, identifier_value FROM privacy_requests
            WHERE job_id = %s AND status = 'queued'
            ORDER BY length(request_id), request_id LIMIT %s""",
        (job_id, limit),
    )
    return [(row[0], Identifier(row[1], row[2])) for row in rows]


def list_identifiers(conn: Driver, job_id: str) -> list[tuple[str, str]]:
    """Return type and value of everybody whom a job names; values are hashes once it is done."""
    rows = conn.execute(
        """SELECT identifier_type, identifier_value FROM privacy_requests
            WHERE job_id = %s ORDER BY length(request_id), request_id""",
        (job_id,),
    )
    return [(row[0], row[1]) for row in rows]


def mark_requests(conn: Driver, request_ids: Iterable[str], status: str) -> None:
    """Say how far some identifiers of a job are."""
    conn.execute(
        "UPDATE privacy_requests SET status = %s WHERE request_id = ANY(%s)",
        (status, list(request_ids)),
    )


def add_to_receipt(conn: Driver, job_id: str, counts: Mapping[str, int], at: str) -> None:
    """Add to what a job removed, per store, with the time of the last removal."""
    row = conn.execute(
        "SELECT receipt FROM privacy_jobs WHERE job_id = %s FOR UPDATE", (job_id,)
    ).fetchone()
    assert row is not None
    receipt: dict[str, Any] = row[0]
    removed = receipt.setdefault("removed", {})
    for store, count in counts.items():
        known = removed.get(store, {"count": 0})
        removed[store] = {"count": known["count"] + count, "at": at}
    conn.execute("UPDATE privacy_jobs SET receipt = %s WHERE job_id = %s", (Jsonb(receipt), job_id))


def add_parts(conn: Driver, job_id: str, parts: Iterable[str]) -> None:
    """Remember which parts of large tables something was removed from."""
    conn.execute(
        """UPDATE privacy_jobs SET receipt = jsonb_set(receipt, ARRAY[%(key)s], (
                  SELECT coalesce(jsonb_agg(DISTINCT p), '[]')
                    FROM (SELECT jsonb_array_elements_text(coalesce(receipt -> %(key)s, '[]')) AS p
                          UNION SELECT unnest(%(parts)s::text[])) AS t))
            WHERE job_id = %(job)s""",
        {"key": PARTS, "parts": sorted(parts), "job": job_id},
    )


def say_in_receipt(conn: Driver, job_id: str, said: Mapping[str, Any]) -> None:
    """Put members into the receipt of a job."""
    conn.execute(
        "UPDATE privacy_jobs SET receipt = receipt || %s WHERE job_id = %s",
        (Jsonb(dict(said)), job_id),
    )


def move_on(
    conn: Driver, job_id: str, step: str, *, seq: int | None = None, started_at: datetime | None
) -> None:
    """Say with which step a job goes on, should this process end now."""
    conn.execute(
        """UPDATE privacy_jobs
              SET step = %s, status = 'running', waiting = NULL, seq = greatest(seq, %s),
                  started_at = coalesce(started_at, %s)
            WHERE job_id = %s""",
        (step, seq, started_at, job_id),
    )


def follow(conn: Driver, job_id: str, seq: int | None) -> None:
    """Let a job also wait for followers to learn of batch ``seq``."""
    conn.execute("UPDATE privacy_jobs SET seq = greatest(seq, %s) WHERE job_id = %s", (seq, job_id))


def say_waiting(conn: Driver, job_ids: Sequence[str], waiting: str | None) -> None:
    """Say what some jobs wait for."""
    conn.execute(
        """UPDATE privacy_jobs SET waiting = %s
            WHERE job_id = ANY(%s) AND waiting IS DISTINCT FROM %s""",
        (waiting, list(job_ids), waiting),
    )


def finish(conn: Driver, job_id: str, at: datetime) -> None:
    """Say that a job is done."""
    conn.execute(
        """UPDATE privacy_jobs SET status = 'done', step = 'done', waiting = NULL, finished_at = %s,
                  started_at = coalesce(started_at, %s)
            WHERE job_id = %s""",
        (at, at, job_id),
    )


def hash_requests(conn: Driver, job_id: str, salt: bytes) -> None:
    """Let salted hashes stand for the identifiers of a job from now on."""
    rows = conn.execute(
        """SELECT request_id, identifier_type, identifier_value FROM privacy_requests
            WHERE job_id = %s AND status <> 'done'""",
        (job_id,),
    ).fetchall()
    hashes = [hash_identifier(salt, Identifier(row[1], row[2])).hex() for row in rows]
    conn.execute(
        """UPDATE privacy_requests r SET identifier_value = 'hash:' || t.value, status = 'done',
                  message_id = ''
             FROM unnest(%s::text[], %s::text[]) AS t (request_id, value)
            WHERE r.request_id = t.request_id""",
        ([row[0] for row in rows], hashes),
    )


def forget_reason(conn: Driver, job_id: str) -> None:
    """Drop the reason of a job: it names the person."""
    conn.execute("UPDATE privacy_jobs SET reason = 'erased' WHERE job_id = %s", (job_id,))
    conn.execute("UPDATE privacy_requests SET reason = 'erased' WHERE job_id = %s", (job_id,))


def list_exports_of(conn: Driver, hashes: Sequence[str]) -> list[str]:
    """Return the exports that hold somebody of whom ``hashes`` (hexadecimal) are known."""
    rows = conn.execute(
        """SELECT job_id FROM privacy_jobs
            WHERE kind = 'export' AND archive_removed_at IS NULL
              AND (receipt -> 'held' ?| %s::text[]
                   OR EXISTS (SELECT FROM privacy_requests r WHERE r.job_id = privacy_jobs.job_id
                                 AND r.identifier_value = ANY(%s)))""",
        (list(hashes), [f"hash:{one}" for one in hashes]),
    )
    return [row[0] for row in rows]


def list_exports_before(conn: Driver, before: datetime) -> list[str]:
    """Return the exports that were finished before ``before`` and are still there."""
    rows = conn.execute(
        """SELECT job_id FROM privacy_jobs
            WHERE kind = 'export' AND archive_removed_at IS NULL AND finished_at < %s""",
        (before,),
    )
    return [row[0] for row in rows]


def note_archive_removed(conn: Driver, job_id: str, at: datetime) -> None:
    """Say that the archive of an export is gone."""
    conn.execute("UPDATE privacy_jobs SET archive_removed_at = %s WHERE job_id = %s", (at, job_id))
