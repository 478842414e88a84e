"""The outbox in Postgres: what waits to be delivered, what was, and what each receiver holds.

Deliveries are written in the transaction that says how far a destination was looked at and what its
receiver will hold, so a crash leaves all of it or nothing. They go out one after the other; a copy
after a crash has the id of the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cdp.activation.delivery import Delivery, DeliveryStatus, name_delivery
from cdp.activation.difference import Change, SentRow
from cdp.activation.retry import Attempt
from cdp.storage.database import Driver

_SHOWN = """delivery_id, number, status, row_count, attempts, created_at, first_attempt_at,
    next_attempt_at, delivered_at, last_status, last_error"""


def queue_delivery(
    connection: Driver,
    destination_id: str,
    number: int,
    rows: Sequence[dict[str, Any]],
) -> str:
    """Put a delivery into the outbox; return its id."""
    delivery_id = name_delivery(destination_id, number)
    connection.execute(
        """INSERT INTO deliveries (delivery_id, destination_id, number, rows, row_count, people,
                                   next_attempt_at)
           VALUES (%s, %s, %s, %s::json, %s, %s, now())""",
        (
            delivery_id,
            destination_id,
            number,
            json.dumps(rows, ensure_ascii=False),
            len(rows),
            sorted({row["profile_id"] for row in rows}),
        ),
    )
    return delivery_id


def note_sent(connection: Driver, destination_id: str, changes: Sequence[Change]) -> None:
    """Write down what the receiver holds once ``changes`` have reached it."""
    gone = [one for one in changes if one.digest is None]
    if gone:
        connection.execute(
            """DELETE FROM destination_rows d
                USING unnest(%s::text[], %s::bigint[]) AS g (stream, profile_no)
                WHERE d.destination_id = %s AND d.stream = g.stream
                  AND d.profile_no = g.profile_no""",
            ([one.stream.name for one in gone], [one.profile_no for one in gone], destination_id),
        )
    held = [one for one in changes if one.digest is not None]
    if held:
        connection.execute(
            """INSERT INTO destination_rows (destination_id, stream, profile_no, profile_id, digest)
               SELECT %s, * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::bytea[])
                   ON CONFLICT (destination_id, stream, profile_no) DO UPDATE
                  SET profile_id = excluded.profile_id, digest = excluded.digest""",
            (
                destination_id,
                [one.stream.name for one in held],
                [one.profile_no for one in held],
                [one.profile_id for one in held],
                [one.digest for one in held],
            ),
        )


def read_sent(
    connection: Driver, destination_id: str, stream: str, profiles: Sequence[int]
) -> list[SentRow]:
    """Return what the receiver was told of ``profiles``."""
    rows = connection.execute(
        """SELECT profile_no, profile_id, digest FROM destination_rows
            WHERE destination_id = %s AND stream = %s AND profile_no = ANY (%s)""",
        (destination_id, stream, list(profiles)),
    )
    return [SentRow(*row) for row in rows]


def read_sent_between(
    connection: Driver, destination_id: str, stream: str, after: int, until: int | None
) -> list[SentRow]:
    """Return what the receiver was told of the profiles in (after, until]; ``None``: of all."""
    rows = connection.execute(
        """SELECT profile_no, profile_id, digest FROM destination_rows
            WHERE destination_id = %s AND stream = %s AND profile_no > %s
              AND profile_no <= coalesce(%s, 9223372036854775807)""",
        (destination_id, stream, after, until),
    )
    return [SentRow(*row) for row in rows]


def list_sent_streams(connection: Driver, destination_id: str) -> list[str]:
    """Return the names of the sets of which the receiver holds anything."""
    # A skip scan: there are few sets and maybe millions of rows.
    rows = connection.execute(
        """WITH RECURSIVE found AS (
               SELECT min(stream) AS stream FROM destination_rows WHERE destination_id = %(id)s
               UNION ALL
               SELECT (SELECT min(stream) FROM destination_rows
                        WHERE destination_id = %(id)s AND stream > found.stream)
                 FROM found WHERE found.stream IS NOT NULL)
           SELECT stream FROM found WHERE stream IS NOT NULL""",
        {"id": destination_id},
    )
    return [row[0] for row in rows]


def count_sent(connection: Driver, destination_id: str, stream: str) -> int:
    """Return of how many people the receiver was told in a set."""
    row = connection.execute(
        "SELECT count(*) FROM destination_rows WHERE destination_id = %s AND stream = %s",
        (destination_id, stream),
    ).fetchone()
    assert row is not None
    return int(row[0])


def count_waiting(connection: Driver, destination_id: str) -> int:
    """Return how many deliveries of a destination have not arrived."""
    row = connection.execute(
        "SELECT count(*) FROM deliveries WHERE destination_id = %s AND status <> 'delivered'",
        (destination_id,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def find_next(connection: Driver, destination_id: str, now: datetime) -> Delivery | None:
    """Return the oldest delivery that has not arrived, when its time has come."""
    row = connection.execute(
        """SELECT delivery_id, destination_id, number, rows, attempts, created_at,
                  first_attempt_at, next_attempt_at
             FROM deliveries WHERE destination_id = %s AND status = 'queued'
            ORDER BY number LIMIT 1""",
        (destination_id,),
    ).fetchone()
    if row is None or row[7] > now:
        return None
    return Delivery(*row[:7])


def note_attempt(
    connection: Driver,
    delivery_id: str,
    attempt: Attempt,
    now: datetime,
    *,
    status: DeliveryStatus,
    again_at: datetime | None = None,
) -> None:
    """Write down what came of an attempt. A delivery that was forgotten meanwhile stays so."""
    connection.execute(
        """UPDATE deliveries
              SET status = %(status)s, attempts = attempts + 1,
                  first_attempt_at = coalesce(first_attempt_at, %(now)s),
                  next_attempt_at = %(again_at)s,
                  delivered_at = CASE WHEN %(status)s = 'delivered' THEN %(now)s END,
                  last_status = %(code)s, last_error = %(error)s
            WHERE delivery_id = %(id)s""",
        {
            "id": delivery_id,
            "status": status,
            "now": now,
            "again_at": again_at,
            "code": attempt.status,
            "error": attempt.error,
        },
    )


def queue_again(connection: Driver, destination_id: str, ids: Sequence[str] | None) -> int:
    """Queue deliveries again with a fresh day of attempts; return how many.

    ``ids`` names them, delivered ones too; ``None`` means all that have not arrived.
    """
    found = connection.execute(
        """UPDATE deliveries
              SET status = 'queued', attempts = 0, first_attempt_at = NULL, next_attempt_at = now(),
                  delivered_at = NULL
            WHERE destination_id = %(destination)s
              AND CASE WHEN %(ids)s::text[] IS NULL THEN status <> 'delivered'
                       ELSE delivery_id = ANY (%(ids)s) END""",
        {"destination": destination_id, "ids": None if ids is None else list(ids)},
    )
    return found.rowcount


def list_deliveries(
    connection: Driver,
    destination_id: str,
    *,
    status: DeliveryStatus | None,
    before: int | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return deliveries of a destination, newest first, without what they hold."""
    rows = connection.execute(
        f"""SELECT {_SHOWN} FROM deliveries
             WHERE destination_id = %(id)s
               AND (%(status)s::text IS NULL OR status = %(status)s)
               AND number < coalesce(%(before)s, 9223372036854775807)
             ORDER BY number DESC LIMIT %(limit)s""",
        {"id": destination_id, "status": status, "before": before, "limit": limit},
    )
    names = [name.strip() for name in _SHOWN.split(",")]
    return [dict(zip(names, row, strict=True)) for row in rows]


def drop_delivered(connection: Driver, before: datetime) -> int:
    """Drop what was delivered before a moment; return how many deliveries that were."""
    found = connection.execute(
        "DELETE FROM deliveries WHERE status = 'delivered' AND created_at < %s", (before,)
    )
    return found.rowcount


def forget_people(connection: Driver, profile_ids: Sequence[str]) -> int:
    """Take what is said of people out of every delivery, except that they are gone.

    Return how many rows were taken out.
    """
    forgotten = set(profile_ids)
    found = connection.execute(
        "SELECT delivery_id, rows, people FROM deliveries WHERE people && %s FOR UPDATE",
        (sorted(forgotten),),
    ).fetchall()
    taken = 0
    for delivery_id, rows, people in found:
        kept = [row for row in rows if row["profile_id"] not in forgotten or "fields" not in row]
        taken += len(rows) - len(kept)
        connection.execute(
            """UPDATE deliveries SET rows = %s::json, row_count = %s, people = %s
                WHERE delivery_id = %s""",
            (
                json.dumps(kept, ensure_ascii=False),
                len(kept),
                sorted(set(people) - forgotten),
                delivery_id,
            ),
        )
    return taken


def forget_people_everywhere(connection: Driver, profile_ids: Sequence[str]) -> int:
    """Forget people when none of them can be read any more; return how many rows were taken out.

    What a look had read before and wrote after ``forget_people`` goes too. That a receiver holds
    somebody stays known, so that it is told that they are gone; what it holds does not.
    """
    # Whoever plans holds the destination.
    connection.execute("SELECT FROM destinations ORDER BY destination_id FOR UPDATE")
    connection.execute(
        "UPDATE destination_rows SET digest = %s WHERE profile_id = ANY (%s) AND digest <> %s",
        (b"", list(profile_ids), b""),
    )
    return forget_people(connection, profile_ids)
