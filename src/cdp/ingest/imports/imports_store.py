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
from cdp.storage.database import Driver

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 16
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


COLUMNS = ", ".join(Import.__slots__)
_SELECT = f"SELECT {COLUMNS} FROM imports"


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
            RETURNING {COLUMNS}""",
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
