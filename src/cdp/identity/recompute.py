"""Replay the components in which something is new, and write what differs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain

from cdp.identity.components_store import (
    Stored,
    add_outsiders,
    find_contested,
    group_nodes,
    load_components,
    lock_components,
)
from cdp.identity.device_sessions_store import settle_sessions
from cdp.identity.facts import LinkFact, Node, Refusal, Resolution
from cdp.identity.forms_store import write_twins
from cdp.identity.links_store import relabel_links, write_links
from cdp.identity.newcomers import Newcomer, find_newcomers
from cdp.identity.newcomers_store import write_newcomers
from cdp.identity.nodes_store import (
    FreshNode,
    NodeUpdate,
    make_shared_node,
    quarantine_nodes,
    update_nodes,
)
from cdp.identity.partition import (
    PartitionDiff,
    Span,
    cite,
    compare,
    number_joins,
    number_profiles,
)
from cdp.identity.partition_store import lock_profiles, write_diff, write_refusals
from cdp.identity.plain import resolve_any
from cdp.identity.replay_tally import tally
from cdp.identity.rules import Rules
from cdp.identity.sightings import LinkKey, LinkSighting, NodeSighting
from cdp.identity.split_store import find_home, find_parts, move_links
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges
from cdp.storage.database import Driver
from cdp.storage.registers_store import lock_nodes, settle_registers

COMPONENT_CAP = 5_000
"""Nodes. A person of so many identifiers is none; beyond it nothing joins any more."""


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
    again: Collection[int] = ()
    """Existing nodes to replay because rules or decisions changed."""
    ties: Collection[Sequence[int]] = ()
    """Sets of existing nodes that a fact which is not an observation ties together."""
    twins: Collection[tuple[int, int]] = ()
    """Pairs of nodes, new or not, that are found to be spellings of one identifier."""
    moments: Mapping[LinkKey, Sequence[datetime]] = field(default_factory=dict)
    """When links were seen, if the rules ask who was last authenticated on a shared device."""


@dataclass(slots=True)
class Recomputed:
    """What came of it."""

    labels: dict[int, int] = field(default_factory=dict)
    """Nodes that change component."""
    links: dict[LinkKey, LinkFact] = field(default_factory=dict)
    profiles: set[int] = field(default_factory=set)
    """Profiles that were written, with their version."""
    shared: set[int] = field(default_factory=set)
    """Shared devices in the components that were replayed."""


def recompute(
    conn: Driver,
    rules: Rules,
    salt: bytes,
    news: News,
    batch_id: int,
    changes: BatchChanges,
    now: datetime,
    *,
    component_cap: int,
) -> Recomputed:
    """Lock, load, replay and write the components that ``news`` touches.

    A component of ``component_cap`` nodes takes in no others: links that would make it grow are
    kept, and refused, so that one poisonous identifier slows nobody else.
    """
    started = time.perf_counter()
    news, newcomers = _part_newcomers(news, rules, component_cap)
    locked = _lock(conn, news)
    hot = {node_id for node_id, (_, is_hot) in locked.items() if is_hot}
    stored = load_components(conn, {c for n, (c, _) in locked.items() if n not in hot})
    work = _Recomputation(conn, rules, salt, news, stored, hot)
    work.add_fresh()
    work.label(component_cap)
    work.write_links()
    if stored.component_of:
        work.relabel()
        work.replay()
        work.split()
        work.write(batch_id, changes, now)
    if newcomers:
        work.done.links.update(write_newcomers(conn, newcomers, batch_id, now))
        changes.moved_nodes.update(node.node_id for one in newcomers for node in one.nodes)
        changes.profiles.update(one.owner.node_id for one in newcomers)
    if newcomers or stored.component_of:
        work.count(newcomers, time.perf_counter() - started)
    return work.done


def _part_newcomers(news: News, rules: Rules, component_cap: int) -> tuple[News, list[Newcomer]]:
    """Take the newcomers out of the news."""
    if not news.fresh:
        return news, []
    entangled = {*news.again, *chain.from_iterable((*news.ties, *news.twins))}
    found = find_newcomers(news.fresh, news.new_links, entangled, rules, component_cap)
    if not found.people:
        return news, []
    return replace(news, fresh=found.fresh, new_links=found.new_links), found.people


def replay(
    conn: Driver,
    rules: Rules,
    salt: bytes,
    node_ids: Collection[int],
    batch_id: int,
    changes: BatchChanges,
    now: datetime,
    *,
    ties: Collection[Sequence[int]] = (),
    twins: Collection[tuple[int, int]] = (),
    component_cap: int = COMPONENT_CAP,
) -> Recomputed:
    """Replay the components of ``node_ids`` though nothing was seen: rules or decisions changed.

    ``ties`` brings components together, ``twins`` those of pairs that are one. Part of the
    caller's transaction, which shares the rules.
    """
    news = News({}, {}, {}, (), {}, (), again=node_ids, ties=ties, twins=twins)
    done = recompute(conn, rules, salt, news, batch_id, changes, now, component_cap=component_cap)
    update_nodes(conn, {n: NodeUpdate(n, None, label) for n, label in done.labels.items()})
    return done


def _lock(conn: Driver, news: News) -> dict[int, tuple[int, bool]]:
    """Lock the components of existing nodes with news; return their labels.

    More days change nothing, except where something was refused: there they decide whether a
    contact moves.
    """
    wanted = {node_id for link in news.new_links.values() for node_id in link.node_ids}
    wanted.update(news.earlier, news.again, *news.ties, *news.twins)
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


@dataclass(slots=True)
class _Recomputation:
    conn: Driver
    rules: Rules
    salt: bytes
    news: News
    stored: Stored
    hot: Collection[int]
    """Quarantined nodes among those with news."""

    labels: dict[int, int] = field(default_factory=dict)
    """The component of every node at hand, with the new links."""
    affected: set[int] = field(default_factory=set)
    """Components in which something is new."""
    resolutions: dict[int, Resolution] = field(default_factory=dict)
    homes: dict[int, int] = field(default_factory=dict)
    """The components of links that leave the one that they were in."""
    refused: list[Refusal] = field(default_factory=list)
    """Refusals that were not there before."""
    done: Recomputed = field(default_factory=Recomputed)

    def add_fresh(self) -> None:
        """Put what the batch says of nodes beside what is stored of them."""
        stored = self.stored
        for node_id, node in self.news.fresh.items():
            stored.component_of[node_id] = node.component_id
            stored.profile_ids[node_id] = node.profile_id
            stored.nodes[node_id] = Node(node_id, *node.identifier, node.sighting.first)
        for node_id in self.news.earlier:
            known = stored.nodes.get(node_id)
            if known is not None:
                first = min(known.first_seen, self.news.sightings[node_id].first)
                stored.nodes[node_id] = known._replace(first_seen=first)

    def label(self, component_cap: int) -> None:
        """Say which components meet, and in which of them something is new."""
        fresh = self.news.fresh
        # The component that a new node was written with was a guess.
        start = {n: n if n in fresh else c for n, c in self.stored.component_of.items()}
        full = {c for c, size in Counter(start.values()).items() if size >= component_cap}
        ties = [*self.news.ties, *self.news.twins, *(key[1] for key in self.news.new_links)]
        sets = [self._list_joined(node_ids, start, full) for node_ids in ties]
        touched = group_nodes(sets, start)
        moved = {start[node_id]: label for node_id, label in touched.items()}
        self.labels = {node_id: moved.get(label, label) for node_id, label in start.items()}
        concerned = {*fresh, *self.news.earlier, *self.news.again, *touched}
        concerned.update(n for key in self.news.more_days for n in key[1])
        self.affected = {self.labels[n] for n in concerned if n in self.labels}

    def _list_joined(
        self, node_ids: Collection[int], start: Mapping[int, int], full: Collection[int]
    ) -> list[int]:
        inside = [n for n in node_ids if n in start and not self._is_quarantined(n)]
        if full and len({start[n] for n in inside}) > 1:
            return [n for n in inside if start[n] not in full]
        return inside

    def write_links(self) -> None:
        """Write new links and new days; put them beside the stored ones."""
        news, stored = self.news, self.stored
        homes = {key: self._find_home(key[1]) for key in news.new_links}
        sightings = [*news.new_links.values(), *news.more_days.values()]
        self.done.links = write_links(self.conn, sightings, homes)
        for key, link in self.done.links.items():
            if key in homes or link.link_id in stored.links:
                stored.links[link.link_id] = link
        twins = write_twins(self.conn, {pair: self._find_home(pair) for pair in news.twins})
        stored.links.update((link.link_id, link) for link in twins)
        add_outsiders(self.conn, stored, stored.links.values())

    def _find_home(self, node_ids: Collection[int]) -> int:
        """Return the component that a link belongs to: one in which it is new."""
        here = [n for n in node_ids if n in self.labels]
        # A quarantined node lies in another component than those that it is seen with.
        inside = {self.labels[n] for n in here if not self._is_quarantined(n)}
        inside = inside or {self.labels[n] for n in here}
        return min(inside & self.affected or inside, default=min(node_ids))

    def _is_quarantined(self, node_id: int) -> bool:
        node = self.stored.nodes.get(node_id)
        return node_id in self.hot or (node is not None and node.quarantined)

    def relabel(self) -> None:
        """Move the nodes and links of components that others take in."""
        before = self.stored.component_of
        self.done.labels = {n: new for n, new in self.labels.items() if new != before[n]}
        absorbed = {
            before[n]: new for n, new in self.done.labels.items() if n not in self.news.fresh
        }
        if absorbed:
            relabel_links(self.conn, absorbed)

    def replay(self) -> None:
        """Resolve each component in which something is new."""
        nodes: dict[int, dict[int, Node]] = {label: {} for label in self.affected}
        for node_id, label in self.labels.items():
            node = self.stored.nodes.get(node_id)
            if node is not None and label in nodes:
                nodes[label][node_id] = node
        links: dict[int, list[LinkFact]] = {}
        for link in self.stored.links.values():
            home = self._find_home(link.node_ids)
            if home not in nodes:
                continue
            links.setdefault(home, []).append(link)
            for node_id in link.node_ids:
                outsider = self.stored.nodes.get(node_id)
                if outsider is not None and self.labels.get(node_id) != home:
                    nodes[home][node_id] = outsider._replace(
                        quarantined=True,
                        is_beyond_cap=outsider.is_beyond_cap or not outsider.quarantined,
                    )
        self.resolutions = {
            label: resolve_any(members.values(), links.get(label, ()), self.rules)
            for label, members in nodes.items()
        }
        self.done.shared = {
            key.node_id
            for resolution in self.resolutions.values()
            for key in resolution.joined_at
            if key.shared
        }

    def split(self) -> None:
        """Part the components that an identifier held together which is found to be hot."""
        members: dict[int, list[int]] = {}
        for node_id, label in self.labels.items():
            members.setdefault(label, []).append(node_id)
        for label, resolution in self.resolutions.items():
            if resolution.hot.isdisjoint(members.get(label, ())):
                continue
            links = [
                link
                for link in self.stored.links.values()
                if self._find_home(link.node_ids) == label
            ]
            shared = self.stored.shared_nodes
            parts = find_parts(members[label], links, resolution.hot, shared)
            for node_id, part in parts.items():
                self.done.labels[node_id] = part
            if parts:
                homes = {link.link_id: find_home(link, parts, resolution.hot) for link in links}
                self.homes.update((one, home) for one, home in homes.items() if home != label)
        before = self.stored.component_of
        self.done.labels = {n: new for n, new in self.done.labels.items() if new != before[n]}
        if self.homes:
            move_links(self.conn, self.homes)

    def _settle_sessions(self) -> dict[int, Resolution]:
        news, links = self.news, self.stored.links
        moments = {
            link_id: news.moments[link.trusted, link.node_ids]
            for link_id, link in (links.items() if news.moments else ())
            if (link.trusted, link.node_ids) in news.moments
        }
        return settle_sessions(
            self.conn,
            self.resolutions,
            self.stored.nodes,
            links.values(),
            self.rules,
            moments=moments,
            lock=True,
        )

    def write(self, batch_id: int, changes: BatchChanges, now: datetime) -> None:
        """Write what differs from what is stored."""
        stored = self.stored
        wanted: dict[int, tuple[Span, ...]] = {}
        joined_at: dict[int, datetime | None] = {}
        refusals: dict[Refusal, int] = {}
        members: dict[int, list[int]] = {}
        for node_id, label in self.labels.items():
            members.setdefault(label, []).append(node_id)
        for label, resolution in self.resolutions.items():
            self._make_shared_nodes(label, resolution, changes)
        for label, resolution in self._settle_sessions().items():
            inside = [n for n in members.get(label, ()) if n in stored.nodes]
            wanted.update(number_profiles(resolution, stored.shared_nodes, inside))
            joined_at.update(number_joins(resolution, stored.shared_nodes))
            refusals.update(
                (refusal, self.homes.get(refusal.link_id, label)) for refusal in resolution.refusals
            )
        self._write_refusals(refusals)
        self._quarantine()
        diff = compare(wanted, joined_at, stored.spans, stored.profiles, stored.profile_ids)
        if diff.merges:
            self._cite(diff)
        if diff.cut:
            lock_nodes(self.conn, {slot.node_id for slot in diff.cut})
        written = {row.profile_no for row in (*diff.made, *diff.changed)} | set(diff.gone)
        if stored.profiles.keys() & written:
            lock_profiles(self.conn, stored.profiles.keys() & written)
        write_diff(self.conn, diff, batch_id, now)
        changes.trait_nodes |= settle_registers(self.conn, diff.cut)
        self.done.profiles = written
        changes.moved_nodes.update(diff.spans)
        changes.profiles |= written
        changes.left_profiles |= {span.profile_no for _, span in diff.stale} - set(diff.gone)
        changes.merges.extend(diff.merges)
        changes.merges.extend(one.details for one in diff.changes if one.change == "parted")

    def _cite(self, diff: PartitionDiff) -> None:
        new = [self.done.links[key] for key in self.news.new_links if key in self.done.links]
        joins = chain.from_iterable(found.joins for found in self.resolutions.values())
        messages = {link.link_id: link.first_message_id for link in new}
        cite(diff, joins, messages, self.stored.spans, self.stored.profile_ids)

    def _write_refusals(self, wanted: Mapping[Refusal, int]) -> None:
        before = self.stored.component_of
        # The component that a new node was written with was a guess, and may be somebody's.
        final = {before[n]: label for n, label in self.labels.items() if n not in self.news.fresh}
        stored = {
            refusal: row
            for refusal, row in self.stored.refusals.items()
            if final.get(row[1], row[1]) in self.affected
        }
        self.refused = [refusal for refusal in wanted if refusal not in stored]
        write_refusals(self.conn, stored, wanted)

    def count(self, newcomers: Sequence[Newcomer], seconds: float) -> None:
        """Count for metrics what was done in so many seconds."""
        withheld = {refusal.link_id for refusal in self.refused}
        members = Counter(label for label in self.labels.values() if label in self.affected)
        sizes = Counter(members.values())
        sizes.update(len(one.nodes) for one in newcomers)
        tally.count(
            accepted=sum(
                self.done.links[key].link_id not in withheld for key in self.news.new_links
            )
            + sum(one.link is not None for one in newcomers),
            refused=Counter(refusal.reason for refusal in self.refused),
            sizes=sizes,
            seconds=seconds,
        )

    def _quarantine(self) -> None:
        hot = {
            node_id
            for label, resolution in self.resolutions.items()
            for node_id in resolution.hot
            if self.labels.get(node_id) == label and not self.stored.nodes[node_id].quarantined
        }
        if hot:
            quarantine_nodes(self.conn, hot)

    def _make_shared_nodes(self, label: int, resolution: Resolution, changes: BatchChanges) -> None:
        stored = self.stored
        for key in resolution.joined_at:
            if not key.shared or key.node_id in stored.shared_nodes:
                continue
            device = stored.nodes[key.node_id]
            since = resolution.assignments[key.node_id][-1].since
            assert since is not None
            # Where the device is in the end: what was hot may have parted the component by now.
            home = self.done.labels.get(key.node_id, stored.component_of.get(key.node_id, label))
            node_id, profile_id = make_shared_node(
                self.conn, self.salt, Identifier(device.type, device.value), home, since
            )
            stored.shared_nodes[key.node_id] = node_id
            stored.profile_ids[node_id] = profile_id
            changes.nodes.add(node_id)
