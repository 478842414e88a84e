"""The whole partition from the link facts alone, to compare with the one kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from cdp.identity.components_store import group_nodes
from cdp.identity.crowd import NEVER, Crowd, Settled, settle
from cdp.identity.crowd_store import read_crowd
from cdp.identity.device_sessions import are_sessions_kept
from cdp.identity.device_sessions_store import settle_sessions
from cdp.identity.facts import Assignment, LinkFact, Node, ProfileKey, Resolution
from cdp.identity.links_store import read_some_links
from cdp.identity.nodes_store import SHARED
from cdp.identity.plain import resolve_any
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver

Owner = tuple[str, str, str]
"""Type, value and variant of the node that names a profile."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OwnedSpan = tuple[datetime | None, datetime | None, Owner]


@dataclass(frozen=True, slots=True)
class Partition:
    """Who is who, told by identifiers instead of numbers, so that two databases compare."""

    owners: dict[Identifier, tuple[OwnedSpan, ...]]
    joined_at: dict[Owner, datetime | None]
    refusals: frozenset[tuple[Identifier, Identifier, str, datetime]]


def recompute_all(conn: Driver, rules: Rules) -> Partition:
    """Return the partition that the link facts come to under ``rules``, from scratch.

    ``conn`` is in a snapshot.
    """
    crowd = read_crowd(conn)
    settled = settle(crowd, rules)
    nodes, links = _list_rest(conn, crowd, settled)
    found: Iterable[Resolution] = resolve_all(nodes, links, rules)
    if are_sessions_kept(rules):
        found = settle_sessions(conn, dict(enumerate(found)), nodes, links, rules).values()
    rest = _describe(nodes, found)
    return _add_settled(rest, crowd, settled)


def _list_rest(
    conn: Driver, crowd: Crowd, settled: Settled
) -> tuple[dict[int, Node], list[LinkFact]]:
    """Return the nodes and links that have to be replayed."""
    wanted = np.flatnonzero(settled.owners < 0)
    nodes = {
        node_id: Node(node_id, crowd.types[n], crowd.values[n], _time(at))
        for n, node_id, at in zip(
            wanted.tolist(),
            crowd.node_ids[wanted].tolist(),
            crowd.first_seen[wanted].tolist(),
            strict=True,
        )
    }
    return nodes, read_some_links(conn, crowd.link_ids[settled.rest].tolist())


def _add_settled(partition: Partition, crowd: Crowd, settled: Settled) -> Partition:
    """Add the people about whom there was nothing to replay."""
    names: list[Owner] = [
        (kind, value, "") for kind, value in zip(crowd.types, crowd.values, strict=True)
    ]
    owners = settled.owners.tolist()
    for n, owner in enumerate(owners):
        if owner >= 0:
            kind, value, _ = names[n]
            partition.owners[Identifier(kind, value)] = ((None, None, names[owner]),)
    for n in set(owners) - {-1}:
        met = int(settled.joined_at[n])
        partition.joined_at[names[n]] = None if met == NEVER else _time(met)
    return partition


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def resolve_all(
    nodes: dict[int, Node], links: list[LinkFact], rules: Rules
) -> Iterator[Resolution]:
    """Resolve every component of a graph, one by one: all together take much room. Pure."""
    component_of = {node_id: node_id for node_id in nodes}
    component_of.update(group_nodes([link.node_ids for link in links], component_of))
    members: dict[int, list[Node]] = {}
    for node_id, component in component_of.items():
        members.setdefault(component, []).append(nodes[node_id])
    facts: dict[int, list[LinkFact]] = {}
    for link in links:
        facts.setdefault(component_of[link.node_ids[0]], []).append(link)
    while members:
        component, found = members.popitem()
        yield resolve_any(found, facts.pop(component, ()), rules)


def read_partition(conn: Driver) -> Partition:
    """Return the partition as it is stored."""
    owners: dict[Identifier, list[OwnedSpan]] = {}
    for row in conn.execute(
        """SELECT n.type, n.value, nullif(s.since, '-infinity'), nullif(s.until, 'infinity'),
                  o.type, o.value, CASE o.variant WHEN 'shared' THEN 'shared' ELSE '' END
             FROM node_profiles s
             JOIN nodes n ON n.node_id = s.node_id AND n.variant <> 'shared'
             JOIN nodes o ON o.node_id = s.profile_no
            ORDER BY s.node_id, s.since"""
    ):
        spans = owners.setdefault(Identifier(row[0], row[1]), [])
        spans.append((row[2], row[3], (row[4], row[5], row[6])))
    joined_at = {
        (row[0], row[1], row[2]): row[3]
        for row in conn.execute(
            """SELECT o.type, o.value, CASE o.variant WHEN 'shared' THEN 'shared' ELSE '' END,
                      p.joined_at
                 FROM profiles p JOIN nodes o ON o.node_id = p.profile_no"""
        )
    }
    refusals = frozenset(
        (Identifier(row[0], row[1]), Identifier(row[2], row[3]), row[4], row[5])
        for row in conn.execute(
            """SELECT a.type, a.value, b.type, b.value, r.reason, r.at
                 FROM refusals r
                 JOIN nodes a ON a.node_id = r.node_a JOIN nodes b ON b.node_id = r.node_b"""
        )
    )
    return Partition({key: tuple(spans) for key, spans in owners.items()}, joined_at, refusals)


def _describe(nodes: dict[int, Node], resolutions: Iterable[Resolution]) -> Partition:
    def name(node_id: int) -> Identifier:
        return Identifier(nodes[node_id].type, nodes[node_id].value)

    def owner(key: ProfileKey) -> Owner:
        return (*name(key.node_id), SHARED if key.shared else "")

    def span(part: Assignment) -> OwnedSpan:
        return part.since, part.until, owner(part.profile)

    owners: dict[Identifier, tuple[OwnedSpan, ...]] = {}
    joined_at: dict[Owner, datetime | None] = {}
    refusals: set[tuple[Identifier, Identifier, str, datetime]] = set()
    for found in resolutions:
        for node_id, parts in found.assignments.items():
            owners[name(node_id)] = tuple(span(part) for part in parts)
        joined_at.update((owner(key), at) for key, at in found.joined_at.items())
        refusals.update((name(r.strong), name(r.weak), r.reason, r.at) for r in found.refusals)
    return Partition(owners, joined_at, frozenset(refusals))
