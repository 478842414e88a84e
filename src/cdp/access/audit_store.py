"""Who changed what and who read whom, and when. Details hold no keys, tokens or personal values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

PERSONAL_READ = "personal_read"
"""The action of whoever saw unmasked personal values."""

_MOST_DROPPED = 10_000


class Entry(NamedTuple):
    """What somebody did."""

    at: datetime
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are asked for; ``None`` is any. ``since`` <= at < ``until``."""

    actor: str | None = None
    action: str | None = None
    subjects: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None


def record(
    connection: Driver,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write down a change in the transaction that makes it.

    ``actor`` is ``Caller.actor`` or ``cli``; ``action`` reads like ``token_created``; ``subject``
    is the id or key of what was changed.
    """
    connection.execute(
        "INSERT INTO audit (actor, action, subject, details) VALUES (%s, %s, %s, %s)",
        (actor, action, subject, Jsonb(dict(details or {}))),
    )


def record_many(connection: Driver, entries: Sequence[Entry]) -> None:
    """Write down what happened some time ago, in one statement."""
    connection.execute(
        """INSERT INTO audit (at, actor, action, subject, details)
           SELECT * FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::text[],
                                %s::jsonb[])""",
        (
            [one.at for one in entries],
            [one.actor for one in entries],
            [one.action for one in entries],
            [one.subject for one in entries],
            [Jsonb(dict(one.details)) for one in entries],
        ),
    )


_NO_FILTER = AuditFilter()
_CONDITIONS = {
    "actor": "actor = %(actor)s",
    "action": "action = %(action)s",
    "subjects": "subject = ANY(%(subjects)s::text[])",
    "since": "at >= %(since)s",
    "until": "at < %(until)s",
}


def list_audit(
    connection: Driver, *, limit: int, before: int | None = None, wanted: AuditFilter = _NO_FILTER
) -> list[dict[str, Any]]:
    """Return entries, newest first, below the id ``before``, that are ``wanted``."""
    given = {
        "actor": wanted.actor,
        "action": wanted.action,
        "subjects": None if wanted.subjects is None else list(wanted.subjects),
        "since": wanted.since,
        "until": wanted.until,
    }
    conditions = [_CONDITIONS[name] for name, value in given.items() if value is not None]
    rows = connection.execute(
        f"""SELECT audit_id, at, actor, action, subject, details FROM audit
             WHERE {" AND ".join(["audit_id < %(before)s", *conditions])}
             ORDER BY audit_id DESC LIMIT %(limit)s""",
        {**given, "before": 2**63 - 1 if before is None else before, "limit": limit},
    ).fetchall()
    return [
        {
            "id": audit_id,
            "at": format_time(at),
            "actor": actor,
            "action": action,
            "subject": subject,
            "details": details,
        }
        for audit_id, at, actor, action, subject, details in rows
    ]


def drop_audit_before(connection: Driver, before: datetime) -> int:
    """Forget some of the oldest entries, if they are older than ``before``; return how many."""
    return connection.execute(
        """DELETE FROM audit
            WHERE audit_id IN (SELECT audit_id FROM audit ORDER BY audit_id LIMIT %s)
              AND at < %s""",
        (_MOST_DROPPED, before),
    ).rowcount
