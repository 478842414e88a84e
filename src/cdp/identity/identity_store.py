"""Identity in Postgres: what a batch of observations changes, in one pass and one transaction.

The common batch brings nothing new: identifiers and links are remembered, and only counters are
written. What is new goes through the component: lock it, load it, replay it, write what differs.

Locks are taken kind by kind, each in ascending order: new nodes, components, links, node
counters, profiles. Where Postgres finds a deadlock all the same, the caller does the whole
transaction again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from cdp.identity.components_store import group_nodes, read_components
from cdp.identity.device_sessions import are_sessions_kept
from cdp.identity.device_sessions_store import find_shared
from cdp.identity.facts import LinkFact
from cdp.identity.forms_store import Pair, add_forms, are_forms_kept, begin_forms
from cdp.identity.known import Known
from cdp.identity.links_store import read_links
from cdp.identity.nodes_store import (
    FreshNode,
    KnownNode,
    NodeUpdate,
    StaleNodes,
    find_nodes,
    insert_nodes,
    take_node_ids,
    update_nodes,
)
from cdp.identity.partition_store import bump_profiles, find_touched
from cdp.identity.profile_id import make_profile_id
from cdp.identity.recompute import COMPONENT_CAP, News, Recomputed, recompute
from cdp.identity.rules import Rules
from cdp.identity.rules_store import ensure_salt as ensure_salt
from cdp.identity.rules_store import read_generation, read_rules, share_rules
from cdp.identity.sightings import (
    LinkKey,
    LinkSighting,
    NodeSighting,
    Sightings,
    list_moments,
    make_link_key,
    sum_links,
    sum_up,
)
from cdp.identity.twins import is_variant
from cdp.model import Identifier, Observation
from cdp.storage.batches import BatchChanges
from cdp.storage.database import Driver
from cdp.storage.tombstones_store import Tombstones


class Home(NamedTuple):
    """Where an observation hangs: on the node of its strongest identifier."""

    node_id: int
    link_id: int | None
    """The link that says what it carried, if that is more than one identifier."""


class IdentityStore:
    """Applies observations. One per worker thread: it remembers what it has seen."""

    def __init__(self, rules: Rules, salt: bytes, *, component_cap: int = COMPONENT_CAP) -> None:
        self.rules = rules
        """As of the last batch; another object when they changed."""
        self._generation = 0
        self._rules_lock = threading.Lock()
        self._salt = salt
        self._component_cap = component_cap
        self._known = Known()
        self._keeps_forms = False
        self.tombstones = Tombstones()
        """As of the last ``has_tombstones``."""

    def forget(self) -> None:
        """Drop everything that is remembered; the next batch asks the database again."""
        self._known.forget()

    def has_tombstones(self, conn: Driver) -> bool:
        """Whether anybody was ever deleted or silenced; it stays so until the transaction ends.

        What is remembered goes when there are new ones: some of it was deleted.
        """
        share_rules(conn)
        if self.tombstones.look(conn):
            self.forget()
        return self.tombstones.has_any

    def apply(
        self,
        conn: Driver,
        batch_id: int,
        observations: Sequence[Observation],
        changes: BatchChanges,
        now: datetime,
    ) -> list[Home | None]:
        """Write what ``observations`` say; return the home node of each.

        Each must have an identifier; one whose identifiers have all been blocked since it was read
        has no home. Part of the caller's transaction; fills ``changes``. Raises
        psycopg's ``SerializationFailure`` or ``DeadlockDetected`` when the whole transaction must
        be done again.
        """
        if not observations:
            return []
        self._adopt_rules(conn, share_rules(conn))
        if self.rules.blocks:
            heard = [drop_blocked(seen, self.rules) for seen in observations]
            found = iter(self._apply(conn, batch_id, [o for o in heard if o], changes, now))
            return [next(found) if seen else None for seen in heard]
        return list(self._apply(conn, batch_id, observations, changes, now))

    def look_for_rules(self, conn: Driver) -> None:
        """Take over newer rules though no batch asks for them. ``conn`` is in a snapshot.

        Any thread may do so: who reads claims by ``rules`` then knows them before the next batch.
        """
        self._adopt_rules(conn, read_generation(conn))

    def _adopt_rules(self, conn: Driver, generation: int) -> None:
        if generation > self._generation:
            rules, keeps_forms = read_rules(conn, self.rules.country), are_forms_kept(conn)
            with self._rules_lock:
                if generation > self._generation:
                    self.rules, self._generation = rules, generation
                    self._keeps_forms = keeps_forms

    def _apply(
        self,
        conn: Driver,
        batch_id: int,
        observations: Sequence[Observation],
        changes: BatchChanges,
        now: datetime,
    ) -> list[Home]:
        if not observations:
            return []
        transaction = self._known.settle(conn)
        batch = _Batch(
            conn,
            self.rules,
            self._salt,
            self._known,
            self.tombstones,
            sum_up(observations),
            self._component_cap,
        )
        batch.number_nodes()
        batch.find_links()
        keeps_forms = self._keeps_forms
        if not keeps_forms and any(is_variant(name) for name in batch.missing):
            # Not remembered until it is committed: the next batch reads it with the rules.
            begin_forms(conn)
            keeps_forms = True
        batch.write_nodes()
        if keeps_forms:
            batch.find_twins()
        if are_sessions_kept(self.rules):
            batch.find_sessions(observations)
        recomputed = batch.recompute(batch_id, changes, now)
        try:
            update_nodes(conn, batch.updates(recomputed.labels))
        except StaleNodes:
            self._known.forget()
            raise
        batch.watch_sessions(recomputed)
        batch.count_versions(recomputed, changes, now)
        changes.nodes.update(batch.ids.values())
        self._known.learn(transaction, batch.learnt_nodes, batch.learnt_links)
        homes = batch.list_homes()
        return [homes[position] for position in batch.seen.group_of]


def drop_blocked(seen: Observation, rules: Rules) -> Observation | None:
    """Return ``seen`` without what was blocked by hand; ``None`` when nothing is left."""
    left = tuple(name for name in seen.identifiers if name not in rules.blocks)
    if len(left) == len(seen.identifiers):
        return seen
    return msgspec.structs.replace(seen, identifiers=left) if left else None


@dataclass(slots=True)
class _Batch:
    """One call of ``apply``, step by step."""

    conn: Driver
    rules: Rules
    salt: bytes
    known: Known
    tombstones: Tombstones
    seen: Sightings
    component_cap: int

    ids: dict[Identifier, int] = field(default_factory=dict)
    fresh: dict[int, FreshNode] = field(default_factory=dict)
    missing: list[Identifier] = field(default_factory=list)
    earlier: set[int] = field(default_factory=set)
    """Existing nodes that were seen before their first sighting so far."""
    links: dict[LinkKey, LinkSighting] = field(default_factory=dict)
    new_links: dict[LinkKey, LinkSighting] = field(default_factory=dict)
    """New, or seen before their first sighting so far."""
    more_days: dict[LinkKey, LinkSighting] = field(default_factory=dict)
    """Known links that were seen on a day not known so far."""
    moments: dict[LinkKey, list[datetime]] = field(default_factory=dict)
    """When links were seen, if the rules ask who was last authenticated on a shared device."""
    shared: set[int] = field(default_factory=set)
    """Devices on which somebody was seen and that are, or were, shared."""
    twins: list[Pair] = field(default_factory=list)
    learnt_nodes: dict[Identifier, KnownNode] = field(default_factory=dict)
    learnt_links: dict[LinkKey, LinkFact] = field(default_factory=dict)

    def number_nodes(self) -> None:
        """Find the node of each identifier; give a number to those without."""
        unknown = []
        remembered = self.known.nodes.get
        for identifier in self.seen.nodes:
            node = remembered(identifier)
            if node is None:
                unknown.append(identifier)
            else:
                self._take(identifier, node)
        if unknown:
            self.missing = self._find(unknown)
            numbers = take_node_ids(self.conn, len(self.missing)) if self.missing else []
            for identifier, node_id in zip(self.missing, numbers, strict=True):
                self.ids[identifier] = node_id

    def _find(self, wanted: Sequence[Identifier]) -> list[Identifier]:
        found = find_nodes(self.conn, wanted)
        for identifier, node in found.items():
            self._take(identifier, node)
        self.learnt_nodes.update(found)
        return [identifier for identifier in wanted if identifier not in found]

    def _take(self, identifier: Identifier, node: KnownNode) -> None:
        self.ids[identifier] = node.node_id
        first = self.seen.nodes[identifier].first
        if first < node.first_seen:
            self.earlier.add(node.node_id)
            self.learnt_nodes[identifier] = KnownNode(node.node_id, first)

    def find_links(self) -> None:
        """Sort the links into known ones, new ones, and those with new days only."""
        self.links = sum_links(self.seen.groups, self.ids)
        made = {self.ids[identifier] for identifier in self.missing}
        unknown: dict[LinkKey, LinkSighting] = {}
        for key, link in self.links.items():
            fact = self.known.links.get(key)
            if fact is not None:
                self._sort(key, link, fact)
            elif made.isdisjoint(link.node_ids):
                unknown[key] = link
            else:
                self.new_links[key] = link
        if unknown:
            found = read_links(self.conn, [link.key for link in unknown.values()])
            self.learnt_links.update(found)
            for key, link in unknown.items():
                if key in found:
                    self._sort(key, link, found[key])
                else:
                    self.new_links[key] = link

    def _sort(self, key: LinkKey, link: LinkSighting, fact: LinkFact) -> None:
        if (link.first_at, link.message_id) < (fact.first_at, fact.first_message_id):
            self.new_links[key] = link
            return
        for day in link.days:
            if not any(start <= day < end for start, end in fact.active_days):
                self.more_days[key] = link
                return

    def write_nodes(self) -> None:
        """Make the new nodes; take over those that another worker made meanwhile."""
        if not self.missing:
            return
        made = self._insert(self.missing)
        lost = [identifier for identifier in self.missing if self.ids[identifier] not in made]
        if lost:
            for identifier in lost:
                del self.fresh[self.ids[identifier]]
            gone = self._find(lost)
            if gone:
                raise StaleNodes("a node was erased while it was being made")
            self.new_links.clear()
            self.more_days.clear()
            self.missing = [name for name in self.missing if self.ids[name] in made]
            self.find_links()

    def _insert(self, names: Sequence[Identifier]) -> set[int]:
        labels = self._guess_components({self.ids[name] for name in names})
        erased = self.tombstones.find(self.conn, names) if self.tombstones.has_any else {}
        for name in names:
            node_id = self.ids[name]
            generation = erased[name].generation if name in erased else 0
            profile_id = make_profile_id(self.salt, name.type, name.value, generation=generation)
            self.fresh[node_id] = FreshNode(
                node_id, name, profile_id, labels.get(node_id, node_id), self.seen.nodes[name]
            )
        return insert_nodes(self.conn, self.fresh.values())

    def _guess_components(self, made: set[int]) -> dict[int, int]:
        """Say to which component each new node will belong, unless another worker interferes."""
        around = {node_id for link in self.new_links.values() for node_id in link.node_ids} - made
        labels: dict[int, int] = {}
        hot: set[int] = set()
        if around:
            for node_id, (component, is_hot) in read_components(self.conn, around).items():
                labels[node_id] = component
                if is_hot:
                    hot.add(node_id)
        sets = [[n for n in link.node_ids if n not in hot] for link in self.new_links.values()]
        return group_nodes(sets, labels)

    def recompute(self, batch_id: int, changes: BatchChanges, now: datetime) -> Recomputed:
        """Replay the components in which something is new."""
        news = News(
            fresh=self.fresh,
            new_links=self.new_links,
            more_days=self.more_days,
            earlier=self.earlier,
            sightings={self.ids[name]: seen for name, seen in self.seen.nodes.items()},
            contacts=self._contacts() if self.more_days else set(),
            again=self.shared,
            twins=self.twins,
            moments=self.moments,
        )
        recomputed = recompute(
            self.conn,
            self.rules,
            self.salt,
            news,
            batch_id,
            changes,
            now,
            component_cap=self.component_cap,
        )
        self.learnt_links.update(recomputed.links)
        for name in self.missing:
            self.learnt_nodes[name] = KnownNode(self.ids[name], self.seen.nodes[name].first)
        return recomputed

    def _contacts(self) -> set[int]:
        return {
            self.ids[name]
            for name in self.seen.nodes
            if self.rules.rule_of(name.type).strength == "contact"
        }

    def find_twins(self) -> None:
        """Find out which of the new nodes are spellings of identifiers that are there."""
        self.twins = add_forms(self.conn, {self.ids[n]: n for n in self.missing}, self.rules)

    def find_sessions(self, observations: Sequence[Observation]) -> None:
        """Find the shared devices on which somebody was authenticated just now."""
        self.moments = list_moments(observations, self.seen.group_of, self.seen.groups, self.ids)
        self.shared = find_shared(self.conn, self._list_used() - self.fresh.keys())

    def _list_used(self) -> set[int]:
        in_use = {node_id for key in self.moments for node_id in key[1]}
        return {
            self.ids[name]
            for name in self.seen.nodes
            if self.ids[name] in in_use and self.rules.rule_of(name.type).strength == "ephemeral"
        }

    def watch_sessions(self, recomputed: Recomputed) -> None:
        """Make sure that nobody has made a device shared meanwhile without these events.

        From here on nobody can: the batch holds the rows of its nodes. Raises ``StaleNodes``.
        """
        if self.moments and find_shared(self.conn, self._list_used()) - (
            self.shared | recomputed.shared
        ):
            raise StaleNodes("a device became shared; the batch must be done again")

    def list_homes(self) -> list[Home]:
        """Return where the observations of each group hang."""
        homes = []
        for group in self.seen.groups:
            link_id = None
            if len(group.identifiers) > 1:
                key = make_link_key(group, self.ids)
                link = self.learnt_links.get(key) or self.known.links.get(key)
                link_id = None if link is None else link.link_id
            homes.append(Home(self.ids[group.identifiers[0]], link_id))
        return homes

    def updates(self, labels: dict[int, int]) -> dict[int, NodeUpdate]:
        """Return what to add to the nodes that were there before, and who changes component."""
        updates = {node_id: NodeUpdate(node_id, None, label) for node_id, label in labels.items()}
        for name, sighting in self.seen.nodes.items():
            node_id = self.ids[name]
            if node_id not in self.fresh:
                updates[node_id] = NodeUpdate(node_id, sighting, labels.get(node_id))
        return updates

    def count_versions(self, recomputed: Recomputed, changes: BatchChanges, now: datetime) -> None:
        """Count one more version for each profile that was touched, once."""
        seen: dict[int, NodeSighting] = {
            self.ids[name]: sighting
            for name, sighting in self.seen.nodes.items()
            if self.ids[name] not in self.fresh
        }
        touched = find_touched(self.conn, seen) if seen else set()
        changes.profiles |= touched
        rest = touched - recomputed.profiles
        if rest:
            bump_profiles(self.conn, rest, now)
