"""What brought a person: the campaign, click or other site behind their first and last such visit.

A *touch* is an event whose context names a campaign (``utm_*``, as the SDKs read them from the
page's address), whose page's address has campaign parameters or a click id, or whose page was
reached from another host. Who never came that way has none. Computed from the timeline, so it is
right after every merge, unmerge and late event; of days that lie in the archive alone, from what
was kept of their touches (``touch_facts_store``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from cdp.profiles.touches import CLICK_IDS, describe_visit, read_visit
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

# What no touch can do without, whatever its text looks like otherwise: most events have none of it,
# and to look for it costs a fifth of reading the JSON.
_HINT = r"""[?&]|"campaign"|"referrer"\s*:\s*"[^"]|\\u"""
_MARKED = f"[?&](utm_source|utm_campaign|{'|'.join(CLICK_IDS)})=[^&]"
_HOST = r"^[a-z]+://(?:www\.)?([^/?#:]+)"
IS_TOUCH = """
(v.type = 'page' OR v.context::text ~ %(hint)s)
          -- Each object is taken out once, not once for every look at it.
          AND (SELECT coalesce(c.campaign ->> 'source', c.campaign ->> 'name', '') <> ''
                      OR c.page ->> 'url' ~ %(marked)s
                      OR lower(substring(c.page ->> 'referrer' FROM %(host)s))
                         <> coalesce(lower(substring(c.page ->> 'url' FROM %(host)s)), '')
                 FROM (SELECT v.context -> 'campaign' AS campaign,
                              coalesce(v.context -> 'page',
                                       CASE WHEN v.type = 'page' THEN v.properties END) AS page
                       OFFSET 0) c)
"""
"""Says of an event ``v`` whether it is a touch; with ``TOUCHES_PARAMETERS``."""
_OF_SPAN = """
v.node_id = np.node_id AND v.at >= np.since AND v.at < np.until AND v.at <= %(now)s"""
_PLACE = "at {order}, source_number {order}, message_id {order}"
_FOUND = "v.at, v.source_number, v.message_id, v.type, v.context, v.properties"
# Both ends of the timeline are looked for node by node along its index, so the search ends at the
# first touch that it meets; what was kept of days in the archive has the same order for its key.
_END = f"""
SELECT e.at, e.message_id, e.type, e.context::text AS context, e.properties::text AS properties,
       (SELECT s.name FROM sources s WHERE s.number = e.source_number) AS via
  FROM node_profiles np
 CROSS JOIN LATERAL (
       (SELECT {_FOUND} FROM events v WHERE {_OF_SPAN} AND {IS_TOUCH} ORDER BY {_PLACE} LIMIT 1)
       UNION ALL
       (SELECT {_FOUND} FROM touch_facts v WHERE {_OF_SPAN} ORDER BY {_PLACE} LIMIT 1)) e
 WHERE np.profile_no = {{{{person}}}} {{condition}}
 ORDER BY e.at {{order}}, e.source_number {{order}}, e.message_id {{order}}
 LIMIT 1
"""
# Who has no last touch has no first one: that is not looked for from end to end a second time.
TOUCHES = f"""
WITH last AS MATERIALIZED ({_END.format(order="DESC", condition="")}),
first AS MATERIALIZED (
    {_END.format(order="ASC", condition="AND EXISTS (SELECT FROM last)")})
SELECT * FROM first UNION ALL SELECT * FROM last
"""
"""No row, or the first touch and the last one; with a place for the person's number."""
TOUCHES_PARAMETERS = {"hint": _HINT, "marked": _MARKED, "host": _HOST}

Touches = tuple[dict[str, Any] | None, dict[str, Any] | None]


def read_touches(connection: Driver, profile_no: int, at: datetime | None = None) -> Touches:
    """Return a person's first and last touch until ``at``; ``None`` for who has none.

    Ties of event time are settled by source and message id, whatever arrived first.
    """
    return ask_touches(connection, profile_no, at)()


def ask_touches(
    connection: Driver, profile_no: int, at: datetime | None = None
) -> Callable[[], Touches]:
    """Send what ``read_touches`` asks; return what waits for the answer."""
    rows = connection.execute(
        TOUCHES.format(person="%(person)s"),
        {"person": profile_no, "now": "infinity" if at is None else at, **TOUCHES_PARAMETERS},
    )
    return lambda: show_touches(rows)


def show_touches(rows: Iterable[Sequence[Any]]) -> Touches:
    """Return the first and the last touch from the rows of ``TOUCHES``."""
    ends = [_show(*row) for row in rows]
    return (ends[0], ends[1]) if ends else (None, None)


def _show(
    at: datetime, message_id: str, call: str, context: str, properties: str, source: str | None
) -> dict[str, Any]:
    said = msgspec.json.decode(context), msgspec.json.decode(properties)
    store = said[1].get("store")
    return {
        "at": format_time(at),
        **describe_visit(read_visit(*said, call)),
        "store": store if isinstance(store, str) else None,
        "via": source,
        "message_id": message_id,
    }
