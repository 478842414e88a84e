"""What a runner does with the queue of imports in Postgres: take, keep, checkpoint, finish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from cdp.ingest.imports.imports_store import COLUMNS, Import
from cdp.ingest.parse import Rejection
from cdp.storage.database import Driver

_KEPT_RAW = 8 * 1024


def list_waiting(connection: Driver) -> list[str]:
    """Return the ids of imports that nobody works on, oldest first."""
    rows = connection.execute(
        """SELECT import_id FROM imports
            WHERE status = 'queued' OR (status = 'running' AND lease_until < clock_timestamp())
            ORDER BY created_at, import_id LIMIT 100"""
    ).fetchall()
    return [import_id for (import_id,) in rows]


def list_runners(connection: Driver) -> list[str]:
    """Return who says that they work on an import."""
    rows = connection.execute(
        "SELECT DISTINCT runner_id FROM imports WHERE status = 'running' AND runner_id IS NOT NULL"
    ).fetchall()
    return [runner_id for (runner_id,) in rows]


def end_leases(connection: Driver, runner_id: str) -> None:
    """Let others take at once what a runner holds that is known to be dead."""
    connection.execute(
        "UPDATE imports SET lease_until = now() WHERE runner_id = %s AND status = 'running'",
        (runner_id,),
    )


def take_import(
    connection: Driver, import_id: str, runner_id: str, lease_seconds: float
) -> Import | None:
    """Take an import that nobody works on; ``None`` when somebody was faster."""
    row = connection.execute(
        f"""UPDATE imports
               SET status = 'running', runner_id = %s,
                   lease_until = clock_timestamp() + make_interval(secs => %s),
                   started_at = coalesce(started_at, now()), updated_at = now()
             WHERE import_id = %s
               AND (status = 'queued' OR (status = 'running' AND lease_until < clock_timestamp()))
            RETURNING {COLUMNS}""",
        (runner_id, lease_seconds, import_id),
    ).fetchone()
    return None if row is None else Import(*row)


def renew_lease(
    connection: Driver, import_id: str, runner_id: str, lease_seconds: float, waiting: str | None
) -> bool:
    """Say that the runner lives and what it waits for; False when the import is no longer its."""
    return bool(
        connection.execute(
            """UPDATE imports SET lease_until = clock_timestamp() + make_interval(secs => %s),
                                  waiting = %s, updated_at = now()
                WHERE import_id = %s AND runner_id = %s AND status = 'running'""",
            (lease_seconds, waiting, import_id, runner_id),
        ).rowcount
    )


def release_import(connection: Driver, import_id: str, runner_id: str) -> None:
    """Put an import back into the queue."""
    connection.execute(
        """UPDATE imports SET status = 'queued', runner_id = NULL, lease_until = NULL,
                              waiting = NULL, updated_at = now()
            WHERE import_id = %s AND runner_id = %s AND status = 'running'""",
        (import_id, runner_id),
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far an import has come once a chunk lies in the log."""

    rows_before: int
    rows: int
    accepted: int
    """Of the chunk, as ``rejected`` is."""
    rejected: Sequence[Rejection]
    share: float
    rate: float | None
    reached: Mapping[str, int]


def write_checkpoint(
    connection: Driver, import_id: str, runner_id: str, lease_seconds: float, done: Checkpoint
) -> bool:
    """Count a chunk; False, and nothing counted, when the import is no longer the runner's.

    Also false when the chunk was counted already, so that no retry counts it twice.
    """
    taken = connection.execute(
        """UPDATE imports
              SET rows = %(rows)s, accepted = accepted + %(accepted)s,
                  rejected = rejected + %(rejected)s, share = %(share)s, rate = %(rate)s,
                  reached = reached || %(reached)s, waiting = NULL, updated_at = now(),
                  lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
            WHERE import_id = %(id)s AND runner_id = %(runner)s AND status = 'running'
              AND rows = %(before)s""",
        {
            "rows": done.rows,
            "before": done.rows_before,
            "accepted": done.accepted,
            "rejected": len(done.rejected),
            "share": done.share,
            "rate": done.rate,
            "reached": Jsonb(done.reached),
            "lease": lease_seconds,
            "id": import_id,
            "runner": runner_id,
        },
    ).rowcount
    if taken and done.rejected:
        with connection.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO import_rejected (import_id, row_number, code, message, raw)
                   VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
                [
                    (import_id, one.index, one.code, clean_text(one.message), one.raw[:_KEPT_RAW])
                    for one in done.rejected
                ],
            )
    return bool(taken)


def finish_import(
    connection: Driver, import_id: str, runner_id: str, error: tuple[str, str] | None = None
) -> bool:
    """End an import, well or with ``error`` (code, message); False when it is not the runner's."""
    code, message = error or (None, None)
    message = message and clean_text(message)
    return bool(
        connection.execute(
            """UPDATE imports
                  SET status = %s, error_code = %s, error_message = %s, finished_at = now(),
                      updated_at = now(), runner_id = NULL, lease_until = NULL, waiting = NULL,
                      share = CASE WHEN %s::text IS NULL THEN 1 ELSE share END
                WHERE import_id = %s AND runner_id = %s AND status = 'running'""",
            ("done" if error is None else "failed", code, message, code, import_id, runner_id),
        ).rowcount
    )


def clean_text(text: str) -> str:
    """Return text that Postgres takes: without NUL and halves of characters."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
