"""Imports in Postgres: the queue, how far each has come, the rows it refused.

``import_rejected.raw`` holds rows as they were in the file, personal values included, until
``delete_rejected``; whoever forgets a person must look there and in the folder of uploads.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from cdp.errors import NotFound
from cdp.ingest.imports.targets import Kind
from cdp.ingest.parse import Rejection
from cdp.storage.database import Driver

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 16
_KEPT_RAW = 8 * 1024
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Import:
    """One import. ``status`` is queued, running, done or failed."""

    import_id: str
    source_id: str
    kind: Kind
    mapping: Mapping[str, Any]
    fingerprint: str
    digest: str
    file_name: str
    size: int
    format: str
    status: str
    rows: int
    accepted: int
    rejected: int
    share: float
    rate: float | None
    waiting: str | None
    error_code: str | None
    error_message: str | None
    reached: Mapping[str, int]
    runner_id: str | None
    lease_until: datetime | None
    created_by: str
    said_at: datetime
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    file_removed_at: datetime | None

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody ended it by hand."""
        return self.error_code == CANCELLED


_COLUMNS = ", ".join(Import.__slots__)
_SELECT = f"SELECT {_COLUMNS} FROM imports"


def make_import_id() -> str:
    """Return an id for a new import."""
    return "imp_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def add_import(
    connection: Driver,
    *,
    import_id: str,
    source_id: str,
    kind: Kind,
    mapping: Mapping[str, Any],
    fingerprint: str,
    digest: str,
    file_name: str,
    size: int,
    format: str,
    created_by: str,
    said_at: datetime | None,
) -> Import:
    """Queue an import. ``said_at`` is when its rows were said first, now when ``None``."""
    row = connection.execute(
        f"""INSERT INTO imports (import_id, source_id, kind, mapping, fingerprint, digest,
                                 file_name, size, format, created_by, said_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, now()))
            RETURNING {_COLUMNS}""",
        (
            import_id, source_id, kind, Jsonb(mapping), fingerprint, digest, file_name, size,
            format, created_by, said_at,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None
    return Import(*row)


def lock_fingerprint(connection: Driver, fingerprint: str) -> None:
    """Let one request at a time decide about the same file, kind, mapping and source."""
    connection.execute("SELECT pg_advisory_xact_lock(7263544, hashtext(%s))", (fingerprint,))


def find_import(connection: Driver, import_id: str) -> Import:
    """Return one import; raises ``NotFound``."""
    row = connection.execute(f"{_SELECT} WHERE import_id = %s", (import_id,)).fetchone()
    if row is None:
        raise NotFound("import_not_found", f"there is no import {import_id!r}")
    return Import(*row)


def find_same(connection: Driver, fingerprint: str) -> Import | None:
    """Return the newest import of the same file, kind, mapping and source."""
    row = connection.execute(
        f"{_SELECT} WHERE fingerprint = %s ORDER BY created_at DESC, import_id DESC LIMIT 1",
        (fingerprint,),
    ).fetchone()
    return None if row is None else Import(*row)


def find_last_end(connection: Driver, digest: str, kind: Kind, source_id: str) -> datetime | None:
    """Return when rows of this file last had an effect in this source; ``None`` for never."""
    row = connection.execute(
        """SELECT max(updated_at) FROM imports
            WHERE digest = %s AND kind = %s AND source_id = %s AND accepted > 0""",
        (digest, kind, source_id),
    ).fetchone()
    return row[0] if row is not None else None


def list_imports(
    connection: Driver,
    *,
    limit: int,
    status: str | None = None,
    source_id: str | None = None,
    before: tuple[datetime, str] | None = None,
) -> list[Import]:
    """Return imports, newest first, behind the creation time and id ``before``."""
    rows = connection.execute(
        f"""{_SELECT}
             WHERE (%(status)s::text IS NULL OR status = %(status)s)
               AND (%(source)s::text IS NULL OR source_id = %(source)s)
               AND (%(at)s::timestamptz IS NULL
                    OR (created_at, import_id) < (%(at)s::timestamptz, %(id)s::text))
             ORDER BY created_at DESC, import_id DESC LIMIT %(limit)s""",
        {
            "status": status,
            "source": source_id,
            "at": before and before[0],
            "id": before and before[1],
            "limit": limit,
        },
    ).fetchall()
    return [Import(*row) for row in rows]


def queue_again(connection: Driver, import_id: str) -> Import:
    """Let a failed import go on where it stopped."""
    connection.execute(
        """UPDATE imports SET status = 'queued', error_code = NULL, error_message = NULL,
                              finished_at = NULL, runner_id = NULL, lease_until = NULL,
                              waiting = NULL, updated_at = now()
            WHERE import_id = %s AND status = 'failed'""",
        (import_id,),
    )
    return find_import(connection, import_id)


def cancel_import(connection: Driver, import_id: str) -> Import:
    """End an import that has not ended; its runner notices at its next checkpoint."""
    connection.execute(
        """UPDATE imports SET status = 'failed', error_code = %s, error_message = %s,
                              finished_at = now(), updated_at = now(), waiting = NULL,
                              runner_id = NULL, lease_until = NULL
            WHERE import_id = %s AND status IN ('queued', 'running')""",
        (CANCELLED, "the import was cancelled; what it had taken stays", import_id),
    )
    return find_import(connection, import_id)


# ── What a runner does ──────────────────────────────────────────────────────────────────────────


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
            RETURNING {_COLUMNS}""",
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


# ── Rows that were refused, files that may go ───────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RejectedImportRow:
    """A refused row."""

    row: int
    code: str
    message: str
    raw: bytes


def list_rejected_rows(
    connection: Driver, import_id: str, *, limit: int, after: int = 0
) -> list[RejectedImportRow]:
    """Return refused rows in the order of the file, behind the row ``after``."""
    rows = connection.execute(
        """SELECT row_number, code, message, raw FROM import_rejected
            WHERE import_id = %s AND row_number > %s ORDER BY row_number LIMIT %s""",
        (import_id, after, limit),
    ).fetchall()
    return [RejectedImportRow(*row) for row in rows]


def list_removable(connection: Driver, ended_before: datetime) -> list[str]:
    """Return the ids of imports that ended before, and whose files are still kept."""
    rows = connection.execute(
        """SELECT import_id FROM imports
            WHERE finished_at < %s AND file_removed_at IS NULL LIMIT 1000""",
        (ended_before,),
    ).fetchall()
    return [import_id for (import_id,) in rows]


def note_removed(connection: Driver, import_id: str) -> None:
    """Write down that an import's file is gone, and forget the rows it refused."""
    connection.execute("DELETE FROM import_rejected WHERE import_id = %s", (import_id,))
    connection.execute(
        "UPDATE imports SET file_removed_at = now() WHERE import_id = %s", (import_id,)
    )


def find_known(connection: Driver, import_ids: Sequence[str]) -> set[str]:
    """Return which of ``import_ids`` exist."""
    rows = connection.execute(
        "SELECT import_id FROM imports WHERE import_id = ANY(%s)", (list(import_ids),)
    ).fetchall()
    return {import_id for (import_id,) in rows}
