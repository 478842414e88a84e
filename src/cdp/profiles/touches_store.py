"""What brought a person: the campaign or the other site behind their first and last such visit.

A *touch* is an event whose context names a campaign (``utm_*``, as the SDKs read them from the
page's address), or whose page was reached from another host. Who never came that way has none.
"""

from __future__ import annotations

from typing import Any

from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

# Both ends of the timeline are looked for node by node along its index, so the search ends at the
# first touch that it meets.
_END = """
SELECT e.at, e.message_id, e.campaign ->> 'source', e.campaign ->> 'medium',
       e.campaign ->> 'name', e.campaign ->> 'term', e.campaign ->> 'content',
       nullif(e.page ->> 'referrer', ''), e.page ->> 'url'
  FROM node_profiles np
 CROSS JOIN LATERAL (
       SELECT v.at, v.source_number, v.message_id, c.campaign, c.page
         FROM events v
        CROSS JOIN LATERAL (
              SELECT v.context -> 'campaign' AS campaign,
                     coalesce(v.context -> 'page',
                              CASE WHEN v.type = 'page' THEN v.properties END) AS page
              ) c
        WHERE v.node_id = np.node_id AND v.at >= np.since AND v.at < np.until
          AND (coalesce(c.campaign ->> 'source', c.campaign ->> 'name', '') <> ''
               OR substring(c.page ->> 'referrer' FROM '^[a-z]+://([^/?#]+)')
                  <> coalesce(substring(c.page ->> 'url' FROM '^[a-z]+://([^/?#]+)'), ''))
        ORDER BY v.at {order}, v.source_number {order}, v.message_id {order}
        LIMIT 1) e
 WHERE np.profile_no = %(person)s
 ORDER BY e.at {order}, e.source_number {order}, e.message_id {order}
 LIMIT 1
"""
_FIRST, _LAST = _END.format(order="ASC"), _END.format(order="DESC")
_NAMES = ("source", "medium", "campaign", "term", "content", "referrer", "url")


def read_touches(
    connection: Driver, profile_no: int
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return a person's first and last touch; ``None`` for who has none."""
    parameters = {"person": profile_no}
    with connection.pipeline():
        first = connection.execute(_FIRST, parameters)
        last = connection.execute(_LAST, parameters)
    return _show(first.fetchone()), _show(last.fetchone())


def _show(row: tuple[Any, ...] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    at, message_id, *values = row
    return {
        "at": format_time(at),
        **dict(zip(_NAMES, values, strict=True)),
        "message_id": message_id,
    }
