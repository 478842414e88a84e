"""Who is with whom while the links are replayed: clusters of nodes, and where nodes went. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cdp.identity.facts import Assignment, Node, ProfileKey
from cdp.identity.rules import Rules, TypeRule

Rank = tuple[int, str, str]
"""Orders nodes, the strongest first: priority, type, value."""


@dataclass(slots=True, eq=False)
class Cluster:
    """Nodes that are one profile so far. An element is a node id; a shared device's own profile

    is the element ``-node_id``.
    """

    elements: list[int]
    values: dict[str, set[int]]
    """By type, the nodes that belong to it now."""
    first_seen: datetime
    known: bool
    reachable: bool
    """Has a contact."""
    shared: bool = False
    joined_at: datetime | None = None
    """When two people with a past of their own became this one, the last time."""
    come: list[int] = field(default_factory=list)
    """Nodes that came by themselves, not by two clusters becoming one; one may be gone again."""
    gone: list[int] = field(default_factory=list)

    @property
    def is_person(self) -> bool:
        return self.known or self.reachable


class Clusters:
    """The clusters of some nodes: each node alone at first."""

    def __init__(self, by_id: Mapping[int, Node], ranks: Mapping[int, Rank], rules: Rules) -> None:
        self.by_id = by_id
        self._ranks = ranks
        self.rule_by_node: dict[int, TypeRule] = {}
        self.moves: dict[int, list[tuple[datetime, int]]] = {}
        """Per node that left its first cluster: when, and for the cluster of which element."""
        self._of: dict[int, Cluster] = {}
        self._current: dict[int, int] = {}
        """Where a node that left its first cluster belongs now, by element."""
        self._guests: dict[int, list[int]] = {}
        """Per element the nodes that went to its cluster because it was there."""
        rule_of = {name: rules.rule_of(name) for name in {node.type for node in by_id.values()}}
        for node_id, node in by_id.items():
            rule = self.rule_by_node[node_id] = rule_of[node.type]
            self._of[node_id] = Cluster(
                [node_id],
                {node.type: {node_id}},
                node.first_seen,
                rule.strength == "strong",
                rule.strength == "contact",
            )

    def find(self, node_id: int) -> Cluster:
        """Return the cluster that a node belongs to now."""
        return self._of[self._current.get(node_id, node_id)]

    def find_first(self, node_id: int) -> Cluster:
        """Return the cluster that a node belonged to before it went anywhere."""
        return self._of[node_id]

    def list_joined(self, cluster: Cluster, known: int, come: int) -> Iterator[int]:
        """Give the nodes that belong to a cluster since it had so many elements, and so many had

        come by themselves.
        """
        for element in cluster.elements[known:]:
            for node_id in (element, *self._guests.get(element, ())):
                if node_id > 0 and self.find(node_id) is cluster:
                    yield node_id
        for node_id in cluster.come[come:]:
            if self.find(node_id) is cluster:
                yield node_id

    def is_device(self, node_id: int) -> bool:
        return self.rule_by_node[node_id].strength == "ephemeral"

    def is_contact(self, node_id: int) -> bool:
        return self.rule_by_node[node_id].strength == "contact"

    def unite(self, ours: Cluster, theirs: Cluster, at: datetime) -> None:
        """Make two clusters one. People meet only where both were seen before."""
        met_at = find_meeting((ours.first_seen, theirs.first_seen), at)
        if len(theirs.elements) > len(ours.elements):
            ours, theirs = theirs, ours
        for element in theirs.elements:
            self._of[element] = ours
        ours.elements.extend(theirs.elements)
        for type_name, node_ids in theirs.values.items():
            ours.values.setdefault(type_name, set()).update(node_ids)
        ours.first_seen = min(ours.first_seen, theirs.first_seen)
        ours.known |= theirs.known
        ours.reachable |= theirs.reachable
        ours.joined_at = find_latest(ours.joined_at, theirs.joined_at, met_at)

    def move_to(self, node_id: int, top: int, at: datetime) -> None:
        """Let a node belong to the cluster of another from ``at`` on, in its present one's stead.

        It counts there, and no more where it was.
        """
        self._move(node_id, self._current.get(top, top), at)

    def move_to_own(self, device: int, at: datetime) -> None:
        """Let a device be shared from ``at`` on: it belongs to a profile of its own."""
        self._of[-device] = Cluster([-device], {}, at, known=False, reachable=False, shared=True)
        self._move(device, -device, at)

    def _move(self, node_id: int, element: int, at: datetime) -> None:
        type_name = self.by_id[node_id].type
        former, following = self.find(node_id), self._of[element]
        former.values[type_name].discard(node_id)
        if not former.values[type_name]:
            del former.values[type_name]
        following.values.setdefault(type_name, set()).add(node_id)
        former.gone.append(node_id)
        following.come.append(node_id)
        self._current[node_id] = element
        self._guests.setdefault(element, []).append(node_id)
        self.moves.setdefault(node_id, []).append((at, element))

    # ── The result ──────────────────────────────────────────────────────────────────────────

    def name(self) -> dict[ProfileKey, Cluster]:
        """Return each cluster under its name: the node that was seen first, the strongest of

        several. A shared device's own is named by the device.
        """
        names: dict[ProfileKey, Cluster] = {}
        for cluster in {id(cluster): cluster for cluster in self._of.values()}.values():
            first = cluster.elements[0]
            key = ProfileKey(-first, True) if first < 0 else ProfileKey(self._oldest(cluster))
            names[key] = cluster
        return names

    def _oldest(self, cluster: Cluster) -> int:
        return min(cluster.elements, key=lambda n: (self.by_id[n].first_seen, self._ranks[n]))

    def assign(
        self, names: Mapping[ProfileKey, Cluster], node_ids: Iterable[int]
    ) -> dict[int, tuple[Assignment, ...]]:
        """Say whose each node is, moment by moment."""
        keys = {id(cluster): key for key, cluster in names.items()}
        return {node_id: tuple(self._list_parts(node_id, keys)) for node_id in node_ids}

    def _list_parts(self, node_id: int, keys: Mapping[int, ProfileKey]) -> Iterator[Assignment]:
        since: datetime | None = None
        profile = keys[id(self._of[node_id])]
        for at, element in self.moves.get(node_id, ()):
            following = keys[id(self._of[element])]
            if following == profile or at == since:
                profile = following
                continue
            yield Assignment(node_id, since, at, profile)
            since, profile = at, following
        yield Assignment(node_id, since, None, profile)


def find_meeting(first_seen: Iterable[datetime], at: datetime) -> datetime | None:
    """Return ``at`` if two of those seen together then had been seen before; else ``None``.

    Whoever is new brings nothing that could speak against what the others said.
    """
    return at if sum(first < at for first in first_seen) > 1 else None


def find_latest(*times: datetime | None) -> datetime | None:
    """Return the latest of those that are known."""
    known = [time for time in times if time is not None]
    return max(known) if known else None
