"""What the members of accounts did and bought, newest first, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cdp.accounts.accounts_read_store import MEMBERS
from cdp.storage.database import Driver

OrderPlace = tuple[datetime, int]
EventPlace = tuple[datetime, int, str]

_ORDERS = f"""{MEMBERS},
people AS (SELECT DISTINCT profile_no FROM members)
SELECT o.placed_at, o.order_no, o.document::text, p.profile_id
  FROM people m
  JOIN profiles p USING (profile_no)
  JOIN node_profiles np USING (profile_no)
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 WHERE %(at)s::timestamptz IS NULL
    OR (o.placed_at, o.order_no) < (%(at)s::timestamptz, %(number)s::bigint)
 ORDER BY o.placed_at DESC, o.order_no DESC
 LIMIT %(limit)s
"""
# A node's index gives its newest events without sorting the others.
_EVENTS = f"""{MEMBERS},
people AS (SELECT DISTINCT profile_no FROM members)
SELECT e.source_number, e.message_id, e.type, e.name, e.at, e.received_at, e.original_at,
       e.properties::text, e.context::text, e.group_id, p.profile_id
  FROM people m
  JOIN profiles p USING (profile_no)
  JOIN node_profiles np USING (profile_no)
 CROSS JOIN LATERAL (
       SELECT * FROM events e
        WHERE e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
          AND (%(event)s::text IS NULL
               OR CASE WHEN e.type IN ('page', 'screen') THEN e.type
                       WHEN e.type = 'track' THEN e.name END = %(event)s::text)
          AND e.at <= coalesce(%(at)s::timestamptz, 'infinity')
          AND (%(at)s::timestamptz IS NULL
               OR (e.at, e.source_number, e.message_id)
                  < (%(at)s::timestamptz, %(source)s::int, %(message)s::text))
        ORDER BY e.at DESC, e.source_number DESC, e.message_id DESC
        LIMIT %(limit)s) e
 ORDER BY e.at DESC, e.source_number DESC, e.message_id DESC
 LIMIT %(limit)s
"""


def read_member_orders(
    connection: Driver,
    account_nos: Sequence[int],
    now: datetime,
    *,
    limit: int,
    past: OrderPlace | None = None,
) -> list[tuple[OrderPlace, str, str]]:
    """Return the members' orders from past ``past``: place, document as JSON, profile id."""
    at, number = past or (None, None)
    rows = connection.execute(
        _ORDERS,
        {"accounts": list(account_nos), "now": now, "limit": limit, "at": at, "number": number},
    )
    return [((at, number), text, profile_id) for at, number, text, profile_id in rows]


def read_member_events(
    connection: Driver,
    account_nos: Sequence[int],
    now: datetime,
    *,
    limit: int,
    event: str | None = None,
    past: EventPlace | None = None,
) -> list[tuple[Any, ...]]:
    """Return the members' events from past ``past``: the columns of one, then the profile id.

    ``event`` is a track name, or ``page`` or ``screen`` for those calls.
    """
    at, source, message = past or (None, None, None)
    return connection.execute(
        _EVENTS,
        {
            "accounts": list(account_nos), "now": now, "limit": limit, "event": event,
            "at": at, "source": source, "message": message,
        },
    ).fetchall()  # fmt: skip
