"""Replay the components in which something is new, and write what differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cdp.identity.components_store import (
    Stored,
    add_outsiders,
    find_contested,
    group_nodes,
    load_components,
    lock_components,
)
from cdp.identity.links_store import relabel_links, write_links
from cdp.identity.nodes_store import FreshNode, make_shared_node, quarantine_nodes
from cdp.identity.partition import compare, number_joins, number_profiles
from cdp.identity.partition_store import lock_profiles, write_diff, write_refusals
from cdp.identity.resolve import LinkFact, Node, Refusal, Resolution, resolve
from cdp.identity.rules import Rules
from cdp.identity.sightings import LinkKey, LinkSighting, NodeSighting
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges
from cdp.storage.database import Driver


@dataclass(slots=True)
class News:
    """What a batch brings that may change who is who."""

    fresh: Mapping[int, FreshNode]
    new_links: Mapping[LinkKey, LinkSighting]
    more_days: Mapping[LinkKey, LinkSighting]
    earlier: Collection[int]
    sightings: Mapping[int, NodeSighting]
    contacts: Collection[int]
    """Existing nodes of contact types, when there are ``more_days``."""


@dataclass(slots=True)
class Recomputed:
    """What came of it."""

    labels: dict[int, int] = field(default_factory=dict)
    """Nodes that change component."""
    links: dict[LinkKey, LinkFact] = field(default_factory=dict)
    profiles: set[int] = field(default_factory=set)
    """Profiles that were written, with their version."""


def recompute(
    conn: Driver,
    rules: Rules,
    salt: bytes,
    news: News,
    batch_id: int,
    changes: BatchChanges,
    now: datetime,
) -> Recomputed:
    """Lock, load, replay and write the components that ``news`` touches."""
    done = Recomputed()
    locked = _lock(conn, news)
    hot = {node_id for node_id, (_, is_hot) in locked.items() if is_hot}
    stored = load_components(conn, {c for n, (c, _) in locked.items() if n not in hot})
    _add_fresh(stored, news)
    labels = _label(stored, news, hot)
    homes = {
        key: min((labels[n] for n in key[1] if n in labels and n not in hot), default=key[1][0])
        for key in news.new_links
    }
    done.links = write_links(conn, [*news.new_links.values(), *news.more_days.values()], homes)
    for key, link in done.links.items():
        if key in homes or link.link_id in stored.links:
            stored.links[link.link_id] = link
    add_outsiders(conn, stored, stored.links.values())
    if not stored.component_of:
        return done
    _relabel(conn, stored, labels, news, done)
    resolutions = _replay(stored, labels, rules)
    _write(conn, salt, stored, labels, resolutions, news, batch_id, changes, now, done)
    return done


def _lock(conn: Driver, news: News) -> dict[int, tuple[int, bool]]:
    """Lock the components of existing nodes with news; return their labels.

    More days change nothing, except where something was refused: there they decide whether a
    contact moves.
    """
    wanted = {node_id for link in news.new_links.values() for node_id in link.node_ids}
    wanted.update(news.earlier)
    wanted -= news.fresh.keys()
    doubtful = {node_id for link in news.more_days.values() for node_id in link.node_ids}
    doubtful.intersection_update(news.contacts)
    if not wanted and not doubtful:
        return {}
    labels = lock_components(conn, wanted | doubtful)
    idle = doubtful - wanted
    if idle:
        idle -= find_contested(conn, idle)
    return {node_id: label for node_id, label in labels.items() if node_id not in idle}


def _add_fresh(stored: Stored, news: News) -> None:
    for node_id, node in news.fresh.items():
        stored.component_of[node_id] = node.component_id
        stored.profile_ids[node_id] = node.profile_id
        stored.nodes[node_id] = Node(node_id, *node.identifier, node.sighting.first)
    for node_id in news.earlier:
        known = stored.nodes.get(node_id)
        if known is not None:
            first = min(known.first_seen, news.sightings[node_id].first)
            stored.nodes[node_id] = known._replace(first_seen=first)


def _label(stored: Stored, news: News, hot: Collection[int]) -> dict[int, int]:
    """Return the component of every node at hand, after the new links."""
    labels = stored.component_of
    sets = [[n for n in key[1] if n in labels and n not in hot] for key in news.new_links]
    touched = group_nodes(sets, labels)
    moved = {labels[node_id]: label for node_id, label in touched.items()}
    return {node_id: moved.get(label, label) for node_id, label in labels.items()}


def _relabel(
    conn: Driver, stored: Stored, labels: Mapping[int, int], news: News, done: Recomputed
) -> None:
    absorbed = {
        old: labels[node_id] for node_id, old in stored.component_of.items()
        if labels[node_id] != old
    }  # fmt: skip
    if absorbed:
        relabel_links(conn, absorbed)
    done.labels = {
        node_id: labels[node_id]
        for node_id, old in stored.component_of.items()
        if labels[node_id] != old
    }


def _replay(stored: Stored, labels: Mapping[int, int], rules: Rules) -> dict[int, Resolution]:
    """Resolve each component at hand."""
    nodes: dict[int, dict[int, Node]] = {}
    for node_id, label in labels.items():
        node = stored.nodes.get(node_id)
        if node is not None:
            nodes.setdefault(label, {})[node_id] = node
    links: dict[int, list[LinkFact]] = {}
    for link in stored.links.values():
        inside = [node_id for node_id in link.node_ids if node_id in labels]
        if not inside:
            continue
        # A quarantined node lies in another component than those that it is seen with.
        label = labels[min(inside, key=lambda node_id: stored.nodes[node_id].quarantined)]
        links.setdefault(label, []).append(link)
        for node_id in link.node_ids:
            if labels.get(node_id) != label and node_id in stored.nodes:
                nodes.setdefault(label, {})[node_id] = stored.nodes[node_id]
    return {
        label: resolve(members.values(), links.get(label, ()), rules)
        for label, members in nodes.items()
    }


def _write(
    conn: Driver,
    salt: bytes,
    stored: Stored,
    labels: Mapping[int, int],
    resolutions: Mapping[int, Resolution],
    news: News,
    batch_id: int,
    changes: BatchChanges,
    now: datetime,
    done: Recomputed,
) -> None:
    members: dict[int, list[int]] = {}
    for node_id, label in labels.items():
        if node_id in stored.nodes:
            members.setdefault(label, []).append(node_id)
    wanted = {}
    joined_at = {}
    refusals: dict[Refusal, int] = {}
    hot: set[int] = set()
    for label, resolution in resolutions.items():
        _make_shared_nodes(conn, salt, stored, label, resolution, changes)
        wanted.update(number_profiles(resolution, stored.shared_nodes, members.get(label, ())))
        joined_at.update(number_joins(resolution, stored.shared_nodes))
        refusals.update((refusal, label) for refusal in resolution.refusals)
        hot.update(n for n in resolution.hot if n in labels and not stored.nodes[n].quarantined)
    diff = compare(wanted, joined_at, stored.spans, stored.profiles, stored.profile_ids)
    write_refusals(conn, stored.refusals, refusals)
    if hot:
        quarantine_nodes(conn, hot)
    written = {row.profile_no for row in (*diff.made, *diff.changed)} | set(diff.gone)
    if stored.profiles and written:
        lock_profiles(conn, stored.profiles.keys() & written)
    write_diff(conn, diff, batch_id, now)
    done.profiles = written
    changes.moved_nodes.update(diff.spans)
    changes.profiles |= written
    changes.merges.extend(diff.merges)


def _make_shared_nodes(
    conn: Driver,
    salt: bytes,
    stored: Stored,
    label: int,
    resolution: Resolution,
    changes: BatchChanges,
) -> None:
    for key in resolution.joined_at:
        if not key.shared or key.node_id in stored.shared_nodes:
            continue
        device = stored.nodes[key.node_id]
        since = resolution.assignments[key.node_id][-1].since
        assert since is not None
        node_id, profile_id = make_shared_node(
            conn, salt, Identifier(device.type, device.value), label, since
        )
        stored.shared_nodes[key.node_id] = node_id
        stored.component_of[node_id] = label
        stored.profile_ids[node_id] = profile_id
        changes.nodes.add(node_id)
