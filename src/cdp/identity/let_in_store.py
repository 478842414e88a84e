"""What full components could not take in at once is let in later: who is who hangs on facts alone.

A component of many identifiers takes in no more while events are written, so that one poisonous
import slows nobody else. What it withheld is tied to it here, much at a time and apart from events;
in the end everybody is who a rebuild says, whatever the order of arrival.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from cdp.identity.components_store import group_nodes, read_components
from cdp.identity.recompute import replay
from cdp.identity.rules_store import ensure_salt, read_rules, share_rules
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver

MOST_NODES = 100_000
"""In one component. Of more nothing can be said in bounded memory: there the limit stands."""
_JOB_LOCK = 7263552
_MOST_LINKS = 2000


def let_in_next(conn: Driver, country: str, now: datetime, *, most_nodes: int = MOST_NODES) -> bool:
    """Tie some of what was withheld to the full components; return whether there was any.

    False as well when somebody else is at it. The caller commits.
    """
    row = conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_JOB_LOCK,)).fetchone()
    assert row is not None
    if not row[0]:
        return False
    share_rules(conn)
    ties = _choose(conn, _list_withheld(conn), most_nodes)
    if not ties:
        return False
    batch_id, changes = open_batch(conn), BatchChanges()
    nodes = {node_id for node_ids in ties for node_id in node_ids}
    replay(
        conn,
        read_rules(conn, country),
        ensure_salt(conn),
        nodes,
        batch_id,
        changes,
        now,
        ties=ties,
        # What is within the bounds must be let in now, or it would be looked at for ever.
        component_cap=most_nodes + 1,
    )
    close_batch(conn, batch_id, changes)
    return True


def _list_withheld(conn: Driver) -> list[tuple[int, ...]]:
    """Return the nodes of links that reach from one component into a full one."""
    rows = conn.execute(
        """SELECT DISTINCT l.link_id, l.node_ids
             FROM refusals r
             JOIN nodes n ON n.node_id = r.node_b AND n.component_id <> r.component_id
                         AND NOT n.quarantined
             JOIN links l ON l.link_id = r.link_id AND l.retracted_at IS NULL
            WHERE r.reason = 'limit' ORDER BY l.link_id LIMIT %s""",
        (_MOST_LINKS,),
    )
    return [tuple(row[1]) for row in rows]


def _choose(
    conn: Driver, ties: Collection[tuple[int, ...]], most_nodes: int
) -> list[Sequence[int]]:
    """Leave out those that would make too large a component, and who is nobody's in all."""
    if not ties:
        return []
    found = read_components(conn, {node_id for node_ids in ties for node_id in node_ids})
    labels = {node_id: component for node_id, (component, is_hot) in found.items() if not is_hot}
    cold = [[node_id for node_id in node_ids if node_id in labels] for node_ids in ties]
    group_of = group_nodes(cold, labels)
    sizes: dict[int, int] = dict(
        conn.execute(
            """SELECT component_id, count(*) FROM nodes WHERE component_id = ANY(%s)
                GROUP BY component_id""",
            (sorted(set(labels.values())),),
        ).fetchall()
    )
    members: dict[int, set[int]] = {}
    for node_id, group in group_of.items():
        members.setdefault(group, set()).add(labels[node_id])
    whole = {group: sum(sizes[one] for one in found) for group, found in members.items()}
    return [one for one in cold if len(one) > 1 and whole[group_of[one[0]]] <= most_nodes]
