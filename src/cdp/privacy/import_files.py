"""Uploaded files: whole customer lists, which go as soon as their import has ended."""

from __future__ import annotations

from collections.abc import Callable

from cdp.storage.database import Database, driver


def remove_ended(database: Database, remove: Callable[[str], None]) -> tuple[int, int]:
    """Remove the files of all imports that have ended; return how many, and how many still run.

    A file is not searched: in it a person may be spelled in ways that only its mapping tells, and
    it is no longer needed. What still runs cannot bring anybody back, but its file stays till then.
    """
    with database.transaction() as connection:
        tx = driver(connection)
        ended = [
            row[0]
            for row in tx.execute(
                """SELECT import_id FROM imports
                    WHERE status NOT IN ('queued', 'running') AND file_removed_at IS NULL"""
            )
        ]
        for import_id in ended:
            remove(import_id)
        tx.execute("UPDATE imports SET file_removed_at = now() WHERE import_id = ANY(%s)", (ended,))
        row = tx.execute(
            "SELECT count(*) FROM imports WHERE status IN ('queued', 'running')"
        ).fetchone()
        assert row is not None
        return len(ended), int(row[0])
