"""Who changed what, and when. Details hold no keys, tokens or personal values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from cdp.runtime.clock import format_time
from cdp.storage.database import Driver


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


def list_audit(
    connection: Driver, *, limit: int, before: int | None = None
) -> list[dict[str, Any]]:
    """Return entries, newest first, below the id ``before``."""
    rows = connection.execute(
        """SELECT audit_id, at, actor, action, subject, details FROM audit
            WHERE audit_id < coalesce(%s, 9223372036854775807)
            ORDER BY audit_id DESC LIMIT %s""",
        (before, limit),
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
