"""What the members of accounts come to, read from Postgres: each person once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cdp.accounts.accounts_read_store import MEMBERS
from cdp.revenue import Reported, Sale, Sums, report_in, sum_by_currency
from cdp.storage.database import Driver
from cdp.storage.rates_store import read_rates_for

ACTIVE_FOR = timedelta(days=30)
"""Who was seen within it is active."""


class Figures(NamedTuple):
    """What the members come to."""

    members: int
    active_members: int
    events: int
    first_seen: datetime | None
    last_seen: datetime | None
    open_tickets: int
    sums: Sequence[Sums]
    reported: Reported


# Counters count for whoever holds a node for all time; a slice of a shared one is counted.
_COUNTS = f"""{MEMBERS},
people AS (SELECT DISTINCT profile_no FROM members),
seen AS (
    SELECT np.profile_no,
           CASE WHEN whole.is_whole THEN n.first_seen ELSE slice.first_seen END AS first_seen,
           CASE WHEN whole.is_whole THEN n.last_seen ELSE slice.last_seen END AS last_seen,
           CASE WHEN whole.is_whole THEN n.events ELSE slice.events END AS events
      FROM people m
      JOIN node_profiles np ON np.profile_no = m.profile_no
      JOIN nodes n ON n.node_id = np.node_id
     CROSS JOIN LATERAL (
           SELECT np.since = '-infinity' AND np.until = 'infinity' AS is_whole) whole
      LEFT JOIN LATERAL (
           SELECT min(e.at) AS first_seen, max(e.at) AS last_seen, count(*) AS events
             FROM events e
            WHERE NOT whole.is_whole AND e.node_id = np.node_id
              AND e.at >= np.since AND e.at < np.until) slice ON NOT whole.is_whole)
SELECT (SELECT count(*) FROM people),
       count(DISTINCT profile_no) FILTER (WHERE last_seen >= %(active_since)s),
       coalesce(sum(events), 0)::bigint, min(first_seen), max(last_seen)
  FROM seen
"""
# Of two words at one time the one that closes counts, as on the profile.
_OPEN_TICKETS = f"""{MEMBERS},
people AS (SELECT DISTINCT profile_no FROM members),
states AS (
    SELECT DISTINCT ON (np.profile_no, e.record_id) e.is_open
      FROM people m
      JOIN node_profiles np ON np.profile_no = m.profile_no
      JOIN service_events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
     WHERE e.kind = 'ticket' AND e.is_open IS NOT NULL AND e.at <= %(now)s
     ORDER BY np.profile_no, e.record_id, e.at DESC, e.is_open, e.message_id DESC)
SELECT count(*) FILTER (WHERE is_open) FROM states
"""
# Orders that are equal in what is added up travel as one.
_SALES = f"""{MEMBERS},
people AS (SELECT DISTINCT profile_no FROM members)
SELECT o.currency, date_trunc('day', o.placed_at, 'UTC'), o.total, o.refunded, count(*)::int,
       min(o.order_id)
  FROM people m
  JOIN node_profiles np ON np.profile_no = m.profile_no
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 WHERE o.placed_at <= %(now)s
 GROUP BY 1, 2, 3, 4
"""


def read_figures(
    connection: Driver, account_nos: Sequence[int], now: datetime, currency: str
) -> Figures:
    """Return what the members of any of these accounts come to at ``now``, in each currency and,

    by dated rates, in ``currency``."""
    parameters = {
        "accounts": list(account_nos), "now": now, "active_since": now - ACTIVE_FOR,
    }  # fmt: skip
    with connection.pipeline():
        counted = connection.execute(_COUNTS, parameters)
        opened = connection.execute(_OPEN_TICKETS, parameters)
        sold = connection.execute(_SALES, parameters)
    counts, tickets = counted.fetchone(), opened.fetchone()
    assert counts is not None
    assert tickets is not None
    sales = [Sale(*row) for row in sold]
    rates = read_rates_for(connection, ((one.currency, one.placed_at) for one in sales), currency)
    members, active, events, first_seen, last_seen = counts
    reported = report_in(currency, sales, rates)
    return Figures(
        members, active, events, first_seen, last_seen, tickets[0], sum_by_currency(sales), reported
    )
