"""What is kept in Postgres of the touches of days whose events lie in the archive alone.

A person's first touch is often the oldest thing that is known of them, and a page is read without
opening files. Every touch is kept, not only the ends: which one is a person's first or last follows
from who is who, from the moment that is asked about, and from what was deleted since.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from cdp.profiles.touches_store import IS_TOUCH, TOUCHES_PARAMETERS
from cdp.storage.database import Driver


def _pick(source: str, names: Iterable[str]) -> str:
    """Return an object of those members of ``source`` that are text."""
    members = [
        f"'{name}', CASE WHEN json_typeof({source} -> '{name}') = 'string'"
        f" THEN {source} -> '{name}' END"
        for name in names
    ]
    return f"json_build_object({', '.join(members)})"


# As ``read_visit`` reads it: an empty page in the context is none.
_KEEP = f"""
INSERT INTO touch_facts (node_id, at, source_number, message_id, event, type, context, properties)
SELECT v.node_id, v.at, v.source_number, v.message_id,
       CASE WHEN v.type IN ('page', 'screen') THEN v.type WHEN v.type = 'track' THEN v.name END,
       v.type,
       json_strip_nulls(json_build_object(
           'campaign', {_pick("o.campaign", ("source", "medium", "name", "term", "content"))},
           'page', {_pick("o.page", ("url", "referrer"))})),
       json_strip_nulls({_pick("v.properties", ("store",))})
  FROM {{}} v
 CROSS JOIN LATERAL (
       SELECT v.context -> 'campaign' AS campaign,
              CASE WHEN json_typeof(v.context -> 'page') = 'object'
                        AND v.context ->> 'page' ~ '[^[:space:]{{{{}}}}]' THEN v.context -> 'page'
                   WHEN v.type = 'page' THEN v.properties END AS page
       OFFSET 0) o
 WHERE v.node_id IS NOT NULL AND {IS_TOUCH}
    ON CONFLICT DO NOTHING
"""


def keep_touches(conn: Driver, table: sql.Identifier) -> None:
    """Keep what a document shows of the touches among the events in ``table``."""
    conn.execute(sql.SQL(_KEEP).format(table), TOUCHES_PARAMETERS)
