"""What the profile says of a person's service, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

# Of two words at one time the one that closes counts, as where tickets are shown one by one.
SERVICE_COUNTS = """
WITH said AS (
    SELECT e.kind, e.record_id, e.is_open, e.nps, e.at, e.message_id, e.source_number
      FROM node_profiles np
      JOIN service_events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
     WHERE np.profile_no = {person} AND e.at <= %(now)s),
states AS (
    SELECT DISTINCT ON (kind, record_id) kind, is_open FROM said WHERE is_open IS NOT NULL
     ORDER BY kind, record_id, at DESC, is_open, message_id DESC),
last AS (
    SELECT nps, at FROM said WHERE nps IS NOT NULL
     ORDER BY at DESC, (is_open IS NOT DISTINCT FROM false) DESC, message_id DESC LIMIT 1)
SELECT count(*) FILTER (WHERE kind = 'ticket' AND is_open),
       (SELECT count(DISTINCT record_id) FROM said WHERE kind = 'ticket'),
       count(*) FILTER (WHERE kind = 'complaint' AND is_open),
       (SELECT nps FROM last), (SELECT at FROM last)
  FROM states
"""
"""One row; with a place for the person's number."""


def read_service_counts(connection: Driver, profile_no: int, now: datetime) -> dict[str, Any]:
    """Return how many tickets and complaints are open at ``now``, and the last recommendation."""
    return ask_service_counts(connection, profile_no, now)()


def ask_service_counts(
    connection: Driver, profile_no: int, now: datetime
) -> Callable[[], dict[str, Any]]:
    """Send what ``read_service_counts`` asks; return what waits for the answer."""
    statement = SERVICE_COUNTS.format(person="%(person)s")
    cursor = connection.execute(statement, {"person": profile_no, "now": now})
    return lambda: show_service_counts(cursor.fetchall())


def show_service_counts(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the numbers as they are shown, from the row of ``SERVICE_COUNTS``."""
    open_tickets, tickets, open_complaints, nps, at = rows[0]
    return {
        "open_tickets": open_tickets,
        "tickets": tickets,
        "open_complaints": open_complaints,
        "last_nps": nps,
        "last_nps_at": None if at is None else format_time(at),
    }
