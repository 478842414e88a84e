"""New rules for the people of before: every component replayed, piece by piece.

How far it has come is written with each piece, so that whoever is killed half way, or gives up, is
continued by the next. Workers go on meanwhile, under the new rules from the first moment.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from cdp.identity.facts import LinkFact, Node
from cdp.identity.hot import find_hot
from cdp.identity.identifiers import is_blocked
from cdp.identity.links_store import read_links_of
from cdp.identity.recompute import replay
from cdp.identity.rules import Rules
from cdp.identity.rules_store import ensure_salt, hold_rules, read_rules, share_rules
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver

_JOB_LOCK = 7263551
_MOST_COMPONENTS = 2000


class _Job(NamedTuple):
    version: int
    done_until: int
    total: int | None
    """Components; ``None`` before they are counted."""


class Cooled(NamedTuple):
    """Identifiers that are hot no more under some rules, and all that was seen with them."""

    nodes: frozenset[int]
    links: tuple[LinkFact, ...]


def apply_next(conn: Driver, country: str, now: datetime, *, max_nodes: int = 2000) -> bool:
    """Replay the next components under the newest rules; return whether there may be more to do.

    False as well when somebody else is at it. The caller commits.
    """
    row = conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_JOB_LOCK,)).fetchone()
    assert row is not None
    if not row[0]:
        return False
    asked = _find_job(conn)
    if asked is None:
        return False
    if asked.total is None:
        _count_components(conn, asked.version)
        return True
    is_first = asked.done_until == 0
    if is_first and find_cooled(conn, read_rules(conn, country)).nodes:
        # Their links tie components together that a worker believes to be apart.
        hold_rules(conn)
    share_rules(conn)
    job = _find_job(conn)
    if job is None:
        return False
    if job.version != asked.version:
        return True
    rules = read_rules(conn, country)
    batch_id, changes = open_batch(conn), BatchChanges()
    if is_first:
        # Without the lock there are none: nobody becomes hot who is not so under these rules.
        release_cooled(conn, rules, batch_id, changes, now)
    found = _list_components(conn, job.done_until, max_nodes)
    if found:
        nodes = [node_id for _, node_id in found if node_id is not None]
        replay(conn, rules, ensure_salt(conn), nodes, batch_id, changes, now)
    conn.execute(
        """UPDATE identity_rules
              SET done_until = %s, components = components + %s, profiles = profiles + %s,
                  applied_at = %s
            WHERE version = %s""",
        (
            found[-1][0] if found else job.done_until,
            len(found),
            len(changes.profiles),
            None if found else now,
            job.version,
        ),
    )
    if changes.profiles or changes.moved_nodes or changes.nodes:
        close_batch(conn, batch_id, changes)
    return bool(found)


def _find_job(conn: Driver) -> _Job | None:
    """Return how far the newest rules are applied, unless they are so wholly."""
    row = conn.execute(
        """SELECT version, done_until, components_total FROM identity_rules
            WHERE applied_at IS NULL
              AND version = (SELECT max(version) FROM identity_rules)"""
    ).fetchone()
    return None if row is None else _Job(*row)


def _count_components(conn: Driver, version: int) -> None:
    conn.execute(
        """UPDATE identity_rules
              SET components_total = (SELECT count(DISTINCT component_id) FROM nodes)
            WHERE version = %s""",
        (version,),
    )


def _list_components(conn: Driver, after: int, max_nodes: int) -> list[tuple[int, int | None]]:
    """Return the next components with one node of each that is not hot."""
    rows = conn.execute(
        """SELECT component_id, min(node_id) FILTER (WHERE NOT quarantined), count(*)
             FROM nodes WHERE component_id > %s
            GROUP BY component_id ORDER BY component_id LIMIT %s""",
        (after, _MOST_COMPONENTS),
    ).fetchall()
    found: list[tuple[int, int | None]] = []
    size = 0
    for component_id, node_id, count in rows:
        found.append((component_id, node_id))
        size += count
        if size >= max_nodes:
            break
    return found


def find_cooled(conn: Driver, rules: Rules, among: Collection[int] | None = None) -> Cooled:
    """Return the quarantined nodes that are not hot under ``rules``: all, or those ``among``.

    Reads the whole table of links, unless there is no such node that is not blocked.
    """
    hot = {
        row[0]
        for row in conn.execute(
            """SELECT node_id, type, value FROM nodes
                WHERE quarantined AND (%(among)s::bigint[] IS NULL OR node_id = ANY(%(among)s))""",
            {"among": None if among is None else sorted(among)},
        )
        if not is_blocked(Identifier(row[1], row[2]), rules)
    }
    if not hot:
        return Cooled(frozenset(), ())
    links = read_links_of(conn, hot)
    nodes: dict[int, Node] = {}
    row: Any
    for row in conn.execute(
        "SELECT node_id, type, value, first_seen FROM nodes WHERE node_id = ANY(%s)",
        (sorted({node_id for link in links for node_id in link.node_ids}),),
    ):
        if not is_blocked(Identifier(row[1], row[2]), rules):
            nodes[row[0]] = Node(*row)
    cooled = frozenset(hot & nodes.keys() - find_hot(nodes, links, rules))
    return Cooled(cooled, tuple(link for link in links if not cooled.isdisjoint(link.node_ids)))


def release_cooled(
    conn: Driver,
    rules: Rules,
    batch_id: int,
    changes: BatchChanges,
    now: datetime,
    among: Collection[int] | None = None,
) -> None:
    """Let identifiers that are hot no more tie people together again.

    The caller holds the rules: workers count on a quarantined node to stay so for a batch.
    """
    cooled = find_cooled(conn, rules, among)
    if not cooled.nodes:
        return
    conn.execute(
        "UPDATE nodes SET quarantined = false WHERE node_id = ANY(%s)", (sorted(cooled.nodes),)
    )
    ties = [link.node_ids for link in cooled.links]
    nodes = {node_id for tie in ties for node_id in tie}
    replay(conn, rules, ensure_salt(conn), nodes, batch_id, changes, now, ties=ties)
