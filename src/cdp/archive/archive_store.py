"""What the archive consists of, in Postgres: the one truth, changed together with its effects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import psycopg
from psycopg import sql

from cdp.archive.layout import Part
from cdp.storage.database import Driver

_LOCK = 7263571
_PARTS = "path, p.day, p.rows, bytes, sha256, first_node, last_node, first_at, last_at"
# Batches commit in another order than they are numbered, but only those of one moment.
_LATEST_ROWS = 50_000


class ArchiveBusy(Exception):
    """Somebody else is at the archive; try again later."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day of receipt that is in the archive."""

    day: date
    seq: int
    """Every row in it was committed by this batch or before."""
    removals: int
    rows: int
    archived_at: datetime
    dropped_at: datetime | None
    """When its rows in Postgres were dropped."""


@contextmanager
def hold_archive(libpq_url: str) -> Iterator[None]:
    """Be the only one who changes the archive. Raises ``ArchiveBusy``."""
    with psycopg.connect(
        libpq_url, autocommit=True, connect_timeout=5, application_name="cdp-archive-lock"
    ) as connection:
        if connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
            raise ArchiveBusy
        yield


def list_days(conn: Driver) -> dict[date, Day]:
    """Return all days in the archive."""
    rows = conn.execute(
        "SELECT day, seq, removals, rows, archived_at, dropped_at FROM archive_days ORDER BY day"
    )
    return {row[0]: Day(*row) for row in rows}


def list_parts(conn: Driver, day: date | None = None) -> list[Part]:
    """Return the files of a day, or of all days, in order."""
    rows = conn.execute(
        f"SELECT {_PARTS} FROM archive_parts p"
        " WHERE %(day)s::date IS NULL OR day = %(day)s ORDER BY day, path",
        {"day": day},
    )
    return [Part(*row) for row in rows]


# The same question for one person, within a statement that reads them.
MAY_HOLD = """
EXISTS (SELECT FROM archive_parts p JOIN archive_days d ON d.day = p.day
         WHERE d.dropped_at IS NOT NULL AND p.last_at >= coalesce({at}, '-infinity')
           AND EXISTS (SELECT FROM node_profiles np
                        WHERE np.profile_no = {person}
                          AND np.node_id BETWEEN p.first_node AND p.last_node))
"""


def list_dropped_parts(
    conn: Driver,
    first_node: int,
    last_node: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Part]:
    """Return the files that stand for rows of Postgres and may hold what is looked for."""
    rows = conn.execute(
        f"""SELECT {_PARTS} FROM archive_parts p JOIN archive_days d ON d.day = p.day
             WHERE d.dropped_at IS NOT NULL
               AND p.last_node >= %(first)s AND p.first_node <= %(last)s
               AND p.last_at >= coalesce(%(since)s::timestamptz, '-infinity')
               AND p.first_at < coalesce(%(until)s::timestamptz, 'infinity')
             ORDER BY p.day, p.path""",
        {"first": first_node, "last": last_node, "since": since, "until": until},
    )
    return [Part(*row) for row in rows]


def put_day(
    conn: Driver, day: date, *, seq: int, parts: Collection[Part], now: datetime
) -> list[str]:
    """Let a day consist of ``parts``; return the paths of what it consisted of before."""
    conn.execute(
        """INSERT INTO archive_days (day, seq, rows, archived_at) VALUES (%s, %s, %s, %s)
           ON CONFLICT (day) DO UPDATE
              SET seq = excluded.seq, rows = excluded.rows, archived_at = excluded.archived_at""",
        (day, seq, sum(part.rows for part in parts), now),
    )
    before = conn.execute("DELETE FROM archive_parts WHERE day = %s RETURNING path", (day,))
    paths = [row[0] for row in before]
    add_parts(conn, parts)
    return paths


def add_parts(conn: Driver, parts: Iterable[Part]) -> None:
    """Add files to their days."""
    with conn.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO archive_parts (path, day, rows, bytes, sha256, first_node, last_node,
                                          first_at, last_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    one.path, one.day, one.rows, one.bytes, one.sha256, one.first_node,
                    one.last_node, one.first_at, one.last_at,
                )
                for one in parts
            ],
        )  # fmt: skip


def exchange_part(conn: Driver, old: Part, new: Part | None, *, counts_as_removal: bool) -> None:
    """Let ``new`` stand where ``old`` did; ``None``: nothing of it is left.

    ``counts_as_removal``: whoever took in the day reads it again.
    """
    conn.execute("DELETE FROM archive_parts WHERE path = %s", (old.path,))
    add_parts(conn, [] if new is None else [new])
    conn.execute(
        """UPDATE archive_days SET rows = rows - %s, removals = removals + %s WHERE day = %s""",
        (old.rows - (new.rows if new else 0), int(counts_as_removal), old.day),
    )


def note_dropped(conn: Driver, day: date, *, seq: int, rows: int, now: datetime) -> None:
    """Say that from now on a day is read from its files."""
    conn.execute(
        """UPDATE archive_days SET seq = %s, rows = %s, dropped_at = coalesce(dropped_at, %s)
            WHERE day = %s""",
        (seq, rows, now, day),
    )


def name_table(day: date) -> sql.Identifier:
    """Return the part of the timeline that holds a day."""
    return sql.Identifier(f"events_{day:%Y%m%d}")


def find_newest_seq(conn: Driver, day: date) -> int | None:
    """Return the batch by which the newest rows of a day came; ``None``: it has none."""
    row = conn.execute(
        sql.SQL(
            """SELECT max(b.seq) FROM batches b JOIN (
                      SELECT DISTINCT batch_id FROM (
                             SELECT batch_id FROM {} ORDER BY batch_id DESC LIMIT {}) latest
                      ) e ON e.batch_id = b.batch_id"""
        ).format(name_table(day), sql.Literal(_LATEST_ROWS))
    ).fetchone()
    return None if row is None else row[0]


def drop_table(conn: Driver, day: date, *, expected_rows: int, seq: int) -> bool:
    """Drop a day's rows from Postgres, unless other rows are there than were seen at ``seq``.

    Part of the caller's transaction, which commits at once: everybody else waits.
    """
    conn.execute("SET LOCAL lock_timeout = '3s'")
    # The whole first: who reads the timeline locks in this order too.
    conn.execute("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
    conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name_table(day)))
    row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(name_table(day))).fetchone()
    if row != (expected_rows,) or (find_newest_seq(conn, day) or 0) > seq:
        return False
    conn.execute(sql.SQL("DROP TABLE {}").format(name_table(day)))
    return True
