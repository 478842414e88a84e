"""Destinations in Postgres, and how far each has been told."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cdp.activation.destination import Destination, DestinationType, Status
from cdp.storage.database import Driver

_COLUMNS = """destination_id, name, type, settings, segments, tags, fields, consent, is_masked,
    secret, status, status_reason, created_at, updated_at, change_no, seq, scan"""
FROM_THE_BEGINNING = {"stream": 0, "after": -1}
"""A scan that has looked at nobody yet."""


def create_destination(
    connection: Driver,
    *,
    name: str,
    type: DestinationType,
    settings: Mapping[str, Any],
    segments: Sequence[str],
    tags: Sequence[str],
    fields: Sequence[str],
    consent: Sequence[str],
    is_masked: bool,
    secret: str,
) -> Destination:
    """Store a destination that is to be told of everybody; what changes from now on comes after."""
    row = connection.execute(
        f"""INSERT INTO destinations
              (destination_id, name, type, settings, segments, tags, fields, consent, is_masked,
               secret, change_no, seq, scan)
            SELECT %s, %s, %s, %s::json, %s, %s, %s, %s, %s, %s, change_no, seq, %s::json
              FROM refresh_head
         RETURNING {_COLUMNS}""",
        (
            f"dst_{secrets.token_hex(8)}",
            name,
            type,
            json.dumps(settings),
            list(segments),
            list(tags),
            list(fields),
            list(consent),
            is_masked,
            secret,
            json.dumps(FROM_THE_BEGINNING),
        ),
    ).fetchone()
    assert row is not None
    return _read(row)


def change_destination(connection: Driver, changed: Destination) -> Destination:
    """Store ``changed`` and look at everybody again, for what goes out may have changed."""
    row = connection.execute(
        f"""UPDATE destinations
               SET name = %s, settings = %s::json, segments = %s, tags = %s, fields = %s,
                   consent = %s, is_masked = %s, status = %s, status_reason = %s,
                   scan = %s::json, updated_at = now()
             WHERE destination_id = %s
         RETURNING {_COLUMNS}""",
        (
            changed.name,
            json.dumps(changed.settings),
            list(changed.segments),
            list(changed.tags),
            list(changed.fields),
            list(changed.consent),
            changed.is_masked,
            changed.status,
            changed.status_reason,
            json.dumps(FROM_THE_BEGINNING),
            changed.destination_id,
        ),
    ).fetchone()
    assert row is not None
    return _read(row)


def find_destination(
    connection: Driver, destination_id: str, *, locked: bool = False
) -> Destination | None:
    """Return a destination; ``locked`` keeps everybody else from changing it meanwhile."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM destinations WHERE destination_id = %s"
        + (" FOR UPDATE" if locked else ""),
        (destination_id,),
    ).fetchone()
    return None if row is None else _read(row)


def list_destinations(
    connection: Driver, *, after: tuple[datetime, str] | None = None, limit: int | None = None
) -> list[Destination]:
    """Return destinations, oldest first."""
    at, name = after or (None, None)
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM destinations
             WHERE %(at)s::timestamptz IS NULL
                OR (created_at, destination_id) > (%(at)s, %(name)s)
             ORDER BY created_at, destination_id LIMIT %(limit)s""",
        {"at": at, "name": name, "limit": limit},
    )
    return [_read(row) for row in rows]


def delete_destination(connection: Driver, destination_id: str) -> bool:
    """Forget a destination with its deliveries; return whether there was one."""
    for table in ("deliveries", "destination_rows"):
        connection.execute(f"DELETE FROM {table} WHERE destination_id = %s", (destination_id,))
    found = connection.execute(
        "DELETE FROM destinations WHERE destination_id = %s", (destination_id,)
    )
    return found.rowcount == 1


def set_status(connection: Driver, destination_id: str, status: Status, reason: str | None) -> None:
    """Pause a destination, visibly and with the reason, or let it go on."""
    connection.execute(
        """UPDATE destinations SET status = %s, status_reason = %s, updated_at = now()
            WHERE destination_id = %s""",
        (status, reason, destination_id),
    )


def advance(
    connection: Driver,
    destination_id: str,
    *,
    change_no: int,
    seq: int,
    scan: Mapping[str, Any] | None,
    number: int,
) -> None:
    """Write down how far a destination was looked at, and its newest delivery's ``number``."""
    connection.execute(
        """UPDATE destinations SET change_no = %s, seq = %s, scan = %s::json, number = %s
            WHERE destination_id = %s""",
        (change_no, seq, None if scan is None else json.dumps(scan), number, destination_id),
    )


def read_number(connection: Driver, destination_id: str) -> int:
    """Return the number of a destination's newest delivery; 0 before the first."""
    row = connection.execute(
        "SELECT number FROM destinations WHERE destination_id = %s", (destination_id,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def list_users(connection: Driver, kind: str, key: str) -> list[str]:
    """Return the ids of the destinations that use a segment, or a tag, by itself or as a field."""
    rows = connection.execute(
        """SELECT destination_id FROM destinations
            WHERE CASE WHEN %(kind)s = 'segment' THEN %(key)s = ANY (segments)
                       ELSE %(key)s = ANY (tags)
                         OR EXISTS (SELECT FROM unnest(fields) AS field
                                     WHERE field = 'tags.' || %(key)s
                                        OR starts_with(field, 'tags.' || %(key)s || '.'))
                  END
            ORDER BY created_at""",
        {"kind": kind, "key": key},
    )
    return [row[0] for row in rows]


def _read(row: tuple[Any, ...]) -> Destination:
    lists = [tuple(value) for value in row[4:8]]
    return Destination(*row[:4], *lists, *row[8:])
