"""What is kept in Postgres of shared devices, of days whose events lie in the archive alone.

A device that is one person's has counters. Of a shared one is counted what was seen on it in each
one's time, and whose time it was may be decided anew: so each event's moment is kept, on the node.
"""

from __future__ import annotations

from psycopg import sql

from cdp.storage.database import Driver

_KEEP = """
INSERT INTO shared_device_facts (node_id, at, source_number, message_id, event)
SELECT v.node_id, v.at, v.source_number, v.message_id,
       CASE WHEN v.type IN ('page', 'screen') THEN v.type WHEN v.type = 'track' THEN v.name END
  FROM {} v
 WHERE v.node_id IN (SELECT node_id FROM node_profiles WHERE since > '-infinity')
    ON CONFLICT DO NOTHING
"""


def keep_uses(conn: Driver, table: sql.Identifier) -> None:
    """Keep when the devices that are shared by now were used, of the events in ``table``."""
    conn.execute(sql.SQL(_KEEP).format(table))
