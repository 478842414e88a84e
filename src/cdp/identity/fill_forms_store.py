"""Enters the identifiers that were there before forms were kept, piece by piece.

Workers go on meanwhile. Whoever is killed half way is continued by the next.
"""

from __future__ import annotations

from datetime import datetime

from cdp.identity.forms_store import add_forms, read_progress, write_progress
from cdp.identity.recompute import replay
from cdp.identity.rules_store import ensure_salt, read_rules, share_rules
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver

_JOB_LOCK = 7263552


def fill_next(conn: Driver, country: str, now: datetime, *, max_nodes: int = 2000) -> bool:
    """Enter the next identifiers under their forms, and join those that are twins.

    Returns whether there may be more to do; False as well when somebody else is at it. The caller
    commits.
    """
    done, until = read_progress(conn)
    if done >= until:
        return False
    row = conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_JOB_LOCK,)).fetchone()
    if row is None or not row[0]:
        return False
    share_rules(conn)
    done, until = read_progress(conn)
    found = conn.execute(
        """SELECT node_id, type, value FROM nodes
            WHERE node_id > %s AND node_id <= %s AND variant = ''
            ORDER BY node_id LIMIT %s""",
        (done, until, max_nodes),
    ).fetchall()
    rules = read_rules(conn, country)
    pairs = add_forms(conn, {row[0]: Identifier(row[1], row[2]) for row in found}, rules)
    write_progress(conn, found[-1][0] if len(found) == max_nodes else until, until)
    if pairs:
        batch_id, changes = open_batch(conn), BatchChanges()
        replay(conn, rules, ensure_salt(conn), (), batch_id, changes, now, twins=pairs)
        close_batch(conn, batch_id, changes)
    return len(found) == max_nodes
