"""Components in Postgres: lock them, load them. A component holds all that can touch each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cdp.identity.facts import LinkFact, Node, Reason, Refusal
from cdp.identity.links_store import read_component_links, read_links_for_replay
from cdp.identity.nodes_store import SHARED
from cdp.identity.partition import Span, StoredProfile
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver


@dataclass(slots=True)
class Stored:
    """What Postgres holds of some components."""

    nodes: dict[int, Node]
    component_of: dict[int, int]
    profile_ids: dict[int, str]
    shared_nodes: dict[int, int]
    """Per device, the node of its own shared profile."""
    links: dict[int, LinkFact]
    spans: dict[int, tuple[Span, ...]]
    profiles: dict[int, StoredProfile]
    refusals: dict[Refusal, tuple[int, int]]
    """With their id and component."""


def read_components(conn: Driver, node_ids: Collection[int]) -> dict[int, tuple[int, bool]]:
    """Return (component, quarantined) per node, as committed now."""
    rows = conn.execute(
        "SELECT node_id, component_id, quarantined FROM nodes WHERE node_id = ANY(%b)",
        (sorted(node_ids),),
    ).fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}


def lock_components(conn: Driver, node_ids: Collection[int]) -> dict[int, tuple[int, bool]]:
    """Lock the components of ``node_ids``; return (component, quarantined) per node.

    In ascending order. Whoever held the lock before may have merged a component away, so the
    labels are read again until nothing new appears. Quarantined nodes pull in no component.
    """
    locked: set[int] = set()
    labels = read_components(conn, node_ids)
    while True:
        wanted = {component for component, hot in labels.values() if not hot} - locked
        if not wanted:
            return labels
        conn.execute(
            """INSERT INTO component_locks AS l (component_id)
               SELECT c FROM unnest(%b::bigint[]) AS c
               ON CONFLICT (component_id) DO UPDATE SET component_id = excluded.component_id""",
            (sorted(wanted),),
        )
        locked |= wanted
        labels = read_components(conn, node_ids)


def load_components(conn: Driver, component_ids: Collection[int]) -> Stored:
    """Load everything of some components. Nodes of others that the links name are part of

    ``nodes``, but not of ``component_of``.
    """
    stored = Stored({}, {}, {}, {}, {}, {}, {}, {})
    if not component_ids:
        return stored
    _load_nodes(conn, component_ids, stored)
    stored.links = {link.link_id: link for link in read_component_links(conn, component_ids)}
    add_outsiders(conn, stored, stored.links.values())
    _load_spans(conn, stored)
    _load_refusals(conn, component_ids, stored)
    return stored


def load_facts(
    conn: Driver, rules: Rules, node_ids: Collection[int]
) -> tuple[dict[int, Node], list[LinkFact]]:
    """Return what the replay of the components of some nodes under ``rules`` needs, and nothing of

    what is stored of its results.
    """
    rows = conn.execute(
        """SELECT node_id, type, value, first_seen, quarantined, component_id FROM nodes
            WHERE variant = '' AND component_id IN (
                SELECT component_id FROM nodes WHERE node_id = ANY(%b))""",
        (sorted(node_ids),),
    ).fetchall()
    nodes = {row[0]: Node(*row[:5]) for row in rows}
    contacts = [n for n, one in nodes.items() if rules.rule_of(one.type).strength == "contact"]
    links = read_links_for_replay(conn, {row[5] for row in rows}, contacts)
    stored = Stored(nodes, {}, {}, {}, {}, {}, {}, {})
    add_outsiders(conn, stored, links)
    return nodes, links


def add_outsiders(conn: Driver, stored: Stored, links: Iterable[LinkFact]) -> None:
    """Add the nodes that ``links`` name and that no loaded component holds: quarantined ones, and

    those of a component that was full. To the components at hand both are as good as hot.
    """
    missing = {node_id for link in links for node_id in link.node_ids} - stored.nodes.keys()
    if not missing:
        return
    for row in conn.execute(
        """SELECT node_id, type, value, first_seen, true, NOT quarantined
             FROM nodes WHERE node_id = ANY(%b)""",
        (sorted(missing),),
    ):
        stored.nodes[row[0]] = Node(*row)


def _load_nodes(conn: Driver, component_ids: Collection[int], stored: Stored) -> None:
    shared: dict[Identifier, int] = {}
    for row in conn.execute(
        """SELECT node_id, type, value, first_seen, quarantined, component_id, profile_id, variant
             FROM nodes WHERE component_id = ANY(%b)""",
        (sorted(component_ids),),
    ):
        node_id = row[0]
        stored.component_of[node_id] = row[5]
        stored.profile_ids[node_id] = row[6]
        if row[7] == SHARED:
            shared[Identifier(row[1], row[2])] = node_id
        else:
            stored.nodes[node_id] = Node(node_id, row[1], row[2], row[3], row[4])
    if shared:
        for node in stored.nodes.values():
            variant = shared.get(Identifier(node.type, node.value))
            if variant is not None:
                stored.shared_nodes[node.node_id] = variant


def _load_spans(conn: Driver, stored: Stored) -> None:
    spans: dict[int, list[Span]] = {}
    for row in conn.execute(
        """SELECT s.node_id, nullif(s.since, '-infinity'), nullif(s.until, 'infinity'),
                  p.profile_no, p.profile_id, p.version, p.joined_at
             FROM node_profiles s JOIN profiles p USING (profile_no)
            WHERE s.node_id = ANY(%b) ORDER BY s.node_id, s.since""",
        (sorted(stored.component_of),),
    ):
        spans.setdefault(row[0], []).append(Span(row[1], row[2], row[3]))
        stored.profiles[row[3]] = StoredProfile(*row[3:])
    stored.spans = {node_id: tuple(found) for node_id, found in spans.items()}


def _load_refusals(conn: Driver, component_ids: Collection[int], stored: Stored) -> None:
    for row in conn.execute(
        """SELECT refusal_id, component_id, link_id, node_a, node_b, reason, at
             FROM refusals WHERE component_id = ANY(%b)""",
        (sorted(component_ids),),
    ):
        reason: Reason = row[5]
        stored.refusals[Refusal(row[2], row[3], row[4], reason, row[6])] = (row[0], row[1])


def find_contested(conn: Driver, node_ids: Collection[int]) -> set[int]:
    """Return those of ``node_ids`` in whose component anything was ever refused."""
    rows = conn.execute(
        """SELECT n.node_id FROM nodes n
            WHERE n.node_id = ANY(%b)
              AND EXISTS (SELECT FROM refusals r WHERE r.component_id = n.component_id)""",
        (sorted(node_ids),),
    ).fetchall()
    return {row[0] for row in rows}


def group_nodes(links: Iterable[Collection[int]], labels: Mapping[int, int]) -> dict[int, int]:
    """Return the component of each node that ``links`` (sets of nodes) tie together.

    ``labels`` gives the components that nodes have already. A component keeps the least label of
    those that meet; nodes without one give their own number.
    """
    parent: dict[int, int] = {}
    label_of = labels.get
    touched: dict[int, int] = {}
    for node_ids in links:
        least: int | None = None
        for node_id in node_ids:
            label = touched.get(node_id)
            if label is None:
                label = touched[node_id] = label_of(node_id, node_id)
                parent.setdefault(label, label)
            while (above := parent[label]) != label:
                parent[label] = label = parent[above]
            if least is None:
                least = label
            elif label < least:
                parent[least] = label
                least = label
            else:
                parent[label] = least
    # Ascending: what stands above a label is less, and done before.
    for label in sorted(parent):
        parent[label] = parent[parent[label]]
    return {node_id: parent[label] for node_id, label in touched.items()}
