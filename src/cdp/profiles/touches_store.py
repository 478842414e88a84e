"""What brought a person: the campaign, click or other site behind their first and last such visit.

A *touch* is an event whose context names a campaign (``utm_*``, as the SDKs read them from the
page's address), whose page's address has campaign parameters or a click id, or whose page was
reached from another host. Who never came that way has none. Computed from the timeline, so it is
right after every merge, unmerge and late event.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from cdp.profiles.touches import CLICK_IDS, describe_visit, read_visit
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

_MARKED = f"[?&](utm_source|utm_campaign|{'|'.join(CLICK_IDS)})=[^&]"
_HOST = r"^[a-z]+://(?:www\.)?([^/?#:]+)"
# Both ends of the timeline are looked for node by node along its index, so the search ends at the
# first touch that it meets.
_END = """
SELECT e.at, e.message_id, e.type, e.context::text, e.properties::text, s.name, e.source_number
  FROM node_profiles np
 CROSS JOIN LATERAL (
       SELECT v.*
         FROM events v
        CROSS JOIN LATERAL (
              SELECT v.context -> 'campaign' AS campaign,
                     coalesce(v.context -> 'page',
                              CASE WHEN v.type = 'page' THEN v.properties END) AS page
              ) c
        WHERE v.node_id = np.node_id AND v.at >= np.since AND v.at < np.until
          AND v.at <= %(at)s
          AND (coalesce(c.campaign ->> 'source', c.campaign ->> 'name', '') <> ''
               OR c.page ->> 'url' ~ %(marked)s
               OR lower(substring(c.page ->> 'referrer' FROM %(host)s))
                  <> coalesce(lower(substring(c.page ->> 'url' FROM %(host)s)), ''))
        ORDER BY v.at {order}, v.source_number {order}, v.message_id {order}
        LIMIT 1) e
  LEFT JOIN sources s ON s.number = e.source_number
 WHERE np.profile_no = %(person)s
 ORDER BY e.at {order}, e.source_number {order}, e.message_id {order}
 LIMIT 1
"""
_FIRST, _LAST = _END.format(order="ASC"), _END.format(order="DESC")


def read_touches(
    connection: Driver, profile_no: int, at: datetime | None = None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return a person's first and last touch until ``at``; ``None`` for who has none.

    Ties of event time are settled by source and message id, whatever arrived first.
    """
    with connection.pipeline():
        receive = ask_touches(connection, profile_no, at)
    return receive()


def ask_touches(
    connection: Driver, profile_no: int, at: datetime | None = None
) -> Callable[[], tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Send what ``read_touches`` asks; return what waits for the answer."""
    parameters = {
        "person": profile_no,
        "at": "infinity" if at is None else at,
        "marked": _MARKED,
        "host": _HOST,
    }
    first = connection.execute(_FIRST, parameters)
    last = connection.execute(_LAST, parameters)
    return lambda: (_show(first.fetchone()), _show(last.fetchone()))


def _show(row: tuple[Any, ...] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    at, message_id, call, context, properties, source, _ = row
    said = msgspec.json.decode(context), msgspec.json.decode(properties)
    store = said[1].get("store")
    return {
        "at": format_time(at),
        **describe_visit(read_visit(*said, call)),
        "store": store if isinstance(store, str) else None,
        "via": source,
        "message_id": message_id,
    }
