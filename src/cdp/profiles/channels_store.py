"""The channels that a person uses: web, app, store, wechat…, since when and how much.

An event's channel is its source's setting ``channel``, else the source's type; an order's is the
order's own, else that of the source that told of it first. Computed, so it follows who is who.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cdp.profiles.sessions_store import Archived
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

_CHANNELS = """
WITH sources_by_channel AS (
    SELECT number, coalesce(settings ->> 'channel', type) AS channel FROM sources),
used AS (
    SELECT s.channel, min(e.at) AS first_at, max(e.at) AS last_at, count(*) AS events,
           0 AS orders
      FROM node_profiles np
      JOIN events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
      JOIN sources_by_channel s ON s.number = e.source_number
     WHERE np.profile_no = %(person)s AND e.at <= %(at)s
     GROUP BY s.channel
    UNION ALL
    SELECT s.channel, min(a.at), max(a.at), count(*), 0
      FROM unnest(%(archived_sources)s::int[], %(archived_times)s::timestamptz[])
           AS a (source_number, at)
      JOIN sources_by_channel s ON s.number = a.source_number
     WHERE a.at <= %(at)s
     GROUP BY s.channel
    UNION ALL
    SELECT lower(coalesce(nullif(o.channel, ''), s.channel)), min(o.placed_at), max(o.placed_at),
           0, count(*)
      FROM node_profiles np
      JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since
                   AND o.placed_at < np.until
      LEFT JOIN LATERAL (
           SELECT min(r.source_number) AS number FROM order_reports r
            WHERE r.scope = o.scope AND r.order_id = o.order_id) told ON true
      LEFT JOIN sources_by_channel s ON s.number = told.number
     WHERE np.profile_no = %(person)s AND o.placed_at <= %(at)s
     GROUP BY 1)
SELECT channel, min(first_at), max(last_at), sum(events)::bigint, sum(orders)::bigint
  FROM used WHERE channel IS NOT NULL
 GROUP BY channel ORDER BY max(last_at) DESC, channel
"""


def read_channels(
    connection: Driver, profile_no: int, at: datetime, archived: Archived | None = None
) -> list[dict[str, Any]]:
    """Return a person's channels until ``at``, the one used last first.

    Days that Postgres no longer holds come from ``archived``.
    """
    kept = archived.read_visits(connection, profile_no) if archived is not None else []
    rows = connection.execute(
        _CHANNELS,
        {
            "person": profile_no,
            "at": at,
            "archived_sources": [number for number, _, _ in kept],
            "archived_times": [time for _, time, _ in kept],
        },
    )
    return [
        {
            "channel": channel,
            "first_at": format_time(first),
            "last_at": format_time(last),
            "events": events,
            "orders": orders,
        }
        for channel, first, last, events, orders in rows
    ]
