"""Who is who: the replay of one component's links, a pure function of the *set* of facts.

Links are taken in canonical order (event time, message id). Inside a link the weaker identifiers
join the strongest. A join that the rules forbid is refused and kept with its reason; a refused
device is shared from that moment on, a refused contact moves once its holder has long been silent.
Neither the order of arrival, nor duplicates, nor the cut into batches can change the result.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from cdp.identity.by_hand import Apart, list_apart
from cdp.identity.facts import (
    Assignment,
    Join,
    JoinRule,
    LinkFact,
    Node,
    ProfileKey,
    Reason,
    Refusal,
    Resolution,
)
from cdp.identity.hot import find_hot
from cdp.identity.identifiers import is_blocked
from cdp.identity.rules import Rules, TypeRule
from cdp.model import Identifier


def resolve(nodes: Iterable[Node], links: Iterable[LinkFact], rules: Rules) -> Resolution:
    """Replay ``links`` over ``nodes`` under ``rules``.

    A refusal whose two sides are one person in the end was a misunderstanding: the replay is
    repeated without it, so that later knowledge repairs what it did to the device.
    """
    by_id = {node.node_id: node for node in nodes}
    facts = list(links)
    blocked = frozenset(
        node.node_id
        for node in by_id.values()
        if is_blocked(Identifier(node.type, node.value), rules)
    )
    cold = {n: by_id[n] for n in by_id.keys() - blocked} if blocked else by_id
    hot = find_hot(cold, [link for link in facts if link.kind == "seen"], rules)
    joining = [link for link in facts if not link.parts_by_hand]
    apart = list_apart(facts)
    excused: set[tuple[int, int]] = set()
    while True:
        replay = _Replay(by_id, joining, rules, hot, blocked, apart, excused)
        replay.run()
        moot = replay.moot_refusals()
        if not moot:
            return replay.result()
        excused |= moot


@dataclass(slots=True, eq=False)
class _Cluster:
    """Nodes that are one profile so far. An element is a node id; a shared device's own profile

    is the element ``-node_id``.
    """

    elements: list[int]
    values: dict[str, set[int]]
    first_seen: datetime
    known: bool
    reachable: bool
    """Has a contact."""
    shared: bool = False
    joined_at: datetime | None = None

    @property
    def is_person(self) -> bool:
        return self.known or self.reachable


_Rank = tuple[int, str, str]
_Turn = tuple[datetime, str, tuple[_Rank, ...], bool, tuple[_Rank, ...], int, int]


@dataclass(slots=True)
class _Replay:
    by_id: Mapping[int, Node]
    links: Sequence[LinkFact]
    rules: Rules
    hot: frozenset[int]
    blocked: frozenset[int]
    apart: Sequence[Apart]
    excused: Collection[tuple[int, int]]

    rule_by_node: dict[int, TypeRule] = field(default_factory=dict)
    cluster_of: dict[int, _Cluster] = field(default_factory=dict)
    current: dict[int, int] = field(default_factory=dict)
    """Where a node that left its first cluster belongs now, by element."""
    moves: dict[int, list[tuple[datetime, int]]] = field(default_factory=dict)
    companions: dict[int, list[int]] = field(default_factory=dict)
    """Per device: the non-devices that it was seen with."""
    done: dict[int, list[int]] = field(default_factory=dict)
    """Per contact: positions of the links processed so far that hold it."""
    refused: dict[tuple[int, int], Refusal] = field(default_factory=dict)
    passed_over: list[Refusal] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    queue: list[_Turn] = field(default_factory=list)

    def run(self) -> None:
        for node in self.by_id.values():
            rule = self.rule_by_node[node.node_id] = self.rules.rule_of(node.type)
            self.cluster_of[node.node_id] = _Cluster(
                [node.node_id],
                {node.type: {node.node_id}},
                node.first_seen,
                rule.strength == "strong",
                rule.strength == "contact",
            )
        for position, link in enumerate(self.links):
            self.queue.append(self._turn(link.first_at, link.first_message_id, position, 0))
        self.queue.sort()
        while self.queue:
            at, _, _, _, _, contact, position = heapq.heappop(self.queue)
            if contact:
                self._claim_again(contact, self.links[position], position, at)
            else:
                self._replay_link(self.links[position], position, at)

    def _turn(self, at: datetime, message_id: str, position: int, contact: int) -> _Turn:
        # By identifiers, not by node ids: those depend on the order of arrival.
        link = self.links[position]
        names = sorted(
            self._strength(node_id) for node_id in link.node_ids if node_id in self.by_id
        )
        again = (self._strength(contact),) if contact else ()
        return at, message_id, tuple(names), link.trusted, again, contact, position

    def _strength(self, node_id: int) -> _Rank:
        node = self.by_id[node_id]
        return self.rule_by_node[node_id].priority, node.type, node.value

    def _find(self, node_id: int) -> _Cluster:
        return self.cluster_of[self.current.get(node_id, node_id)]

    # ── One link ────────────────────────────────────────────────────────────────────────────

    def _replay_link(self, link: LinkFact, position: int, at: datetime) -> None:
        present = [node_id for node_id in link.node_ids if node_id in self.by_id]
        present.sort(key=self._strength)
        cold = self._list_cold(present)
        if not cold:
            return
        for node_id in present:
            if node_id in self.blocked:
                self._refuse(link, cold[0], node_id, "blocked", at)
            elif node_id in self.hot:
                self._refuse(link, cold[0], node_id, "hot_identifier", at)
        for node_id in cold:
            if self.rule_by_node[node_id].strength == "contact":
                self.done.setdefault(node_id, []).append(position)
        # Those that were parted from the strongest by hand were seen with each other all the same.
        while cold:
            top, *weaker = cold
            cold = [weak for weak in weaker if not self._join(link, position, top, weak, at)]

    def _list_cold(self, node_ids: Iterable[int]) -> list[int]:
        return [n for n in node_ids if n not in self.hot and n not in self.blocked]

    def _join(self, link: LinkFact, position: int, top: int, weak: int, at: datetime) -> bool:
        """Let ``weak`` to the person of ``top``, or refuse. False: they were parted by hand."""
        ours, theirs = self._find(top), self._find(weak)
        if self._are_apart(ours, theirs, link, weak):
            self._refuse(link, top, weak, "parted_by_hand", at)
            return False
        is_device = self.rule_by_node[weak].strength == "ephemeral"
        if ours is not theirs:
            reason = self._conflict(ours, theirs, link, is_device)
            if reason is None:
                self._unite(ours, theirs, at)
                rule: JoinRule = "by_hand" if link.joins_by_hand else "seen_together"
                self.joins.append(Join(link.link_id, top, weak, at, rule))
            elif (link.link_id, weak) in self.excused:
                self.passed_over.append(Refusal(link.link_id, top, weak, reason, at))
            else:
                self._refuse(link, top, weak, reason, at)
                if link.joins_by_hand:
                    return True
                if is_device and reason != "limit":
                    self._share(link, top, weak, at)
                elif self.rule_by_node[weak].strength == "contact" and reason != "limit":
                    self._contest(link, position, top, weak, at)
        if is_device and self.rule_by_node[top].strength != "ephemeral":
            self.companions.setdefault(weak, []).append(top)
        return True

    def _are_apart(
        self, ours: _Cluster, theirs: _Cluster, link: LinkFact, one: int | None = None
    ) -> bool:
        """Whether somebody parted the two by hand: a node of each, ``one`` being either if given.

        Who merges by hand overrides what was decided before.
        """
        if ours is theirs or not self.apart:
            return False
        for a, b, decided_at in self.apart:
            if one is not None and one not in (a, b):
                continue
            if link.joins_by_hand and decided_at < link.first_at:
                continue
            if a in self.cluster_of and b in self.cluster_of:
                sides = self._find(a), self._find(b)
                if sides == (ours, theirs) or sides == (theirs, ours):
                    return True
        return False

    def _conflict(
        self, ours: _Cluster, theirs: _Cluster, link: LinkFact, is_device: bool
    ) -> Reason | None:
        """Say why the two may not become one, or ``None``."""
        if ours.shared or theirs.shared:
            return "shared_device"
        if self._are_apart(ours, theirs, link):
            return "parted_by_hand"
        reason: Reason | None = None
        for type_name in ours.values.keys() & theirs.values.keys():
            rule = self.rules.rule_of(type_name)
            if rule.unique and link.kind != "exception":
                return "unique_conflict"
            if link.joins_by_hand:
                continue
            if is_device and rule.strength == "contact":
                reason = "other_contact"
            elif rule.limit is not None and rule.limit < sum(
                self._count(side.values[type_name], rule, link) for side in (ours, theirs)
            ):
                reason = reason or "limit"
        if (
            not link.trusted
            and ours.known
            and theirs.known
            and ours.first_seen < link.first_at
            and theirs.first_seen < link.first_at
        ):
            return "public_source"
        return reason

    def _count(self, values: Collection[int], rule: TypeRule, link: LinkFact) -> int:
        """Count those of ``values`` that a limit counts: all, or those new within its window."""
        if rule.window is None:
            return len(values)
        since = link.first_at - rule.window
        return sum(self.by_id[node_id].first_seen > since for node_id in values)

    def _unite(self, ours: _Cluster, theirs: _Cluster, at: datetime) -> None:
        if len(theirs.elements) > len(ours.elements):
            ours, theirs = theirs, ours
        for element in theirs.elements:
            self.cluster_of[element] = ours
        ours.elements.extend(theirs.elements)
        for type_name, node_ids in theirs.values.items():
            ours.values.setdefault(type_name, set()).update(node_ids)
        ours.first_seen = min(ours.first_seen, theirs.first_seen)
        ours.known |= theirs.known
        ours.reachable |= theirs.reachable
        ours.joined_at = _latest(ours.joined_at, theirs.joined_at, at)

    def _refuse(self, link: LinkFact, top: int, weak: int, reason: Reason, at: datetime) -> None:
        self.refused.setdefault((link.link_id, weak), Refusal(link.link_id, top, weak, reason, at))

    # ── Shared devices ──────────────────────────────────────────────────────────────────────

    def _share(self, link: LinkFact, top: int, device: int, at: datetime) -> None:
        """Part a device from its first person from ``at`` on.

        It follows the newcomer when nobody else was ever seen on it (its owner came to it only
        through another device); else it is shared, and becomes a profile of its own.
        """
        ours = self._find(top)
        if self._find(device).shared or not ours.is_person:
            return
        others = {id(self._find(other)) for other in self.companions.get(device, ())}
        if others - {id(ours)}:
            element = -device
            self.cluster_of[element] = _Cluster(
                [element], {}, at, known=False, reachable=False, shared=True
            )
            self._move(device, element, at)
        else:
            self._move(device, self.current.get(top, top), at)
            self.joins.append(Join(link.link_id, top, device, at, "moved"))

    def _move(self, node_id: int, element: int, at: datetime) -> None:
        """Let a node belong to the cluster of ``element`` from ``at`` on, in its first one's stead.

        It counts there, and no more where it was.
        """
        type_name = self.by_id[node_id].type
        former = self._find(node_id).values
        former[type_name].discard(node_id)
        if not former[type_name]:
            del former[type_name]
        self.current[node_id] = element
        self._find(node_id).values.setdefault(type_name, set()).add(node_id)
        self.moves.setdefault(node_id, []).append((at, element))

    # ── Contested contacts ──────────────────────────────────────────────────────────────────

    def _contest(self, link: LinkFact, position: int, top: int, contact: int, at: datetime) -> None:
        """Let a contact move to its claimant when its holder has been silent for long enough."""
        day = at.astimezone(UTC).toordinal()
        last = self._last_held(contact, day)
        patience = self.rules.rebind_after.days
        if day - last <= patience:
            self._wait(link, position, contact, max(day + 1, last + patience + 1))
            return
        holder = self._find(contact)
        former = [other for other in self.done[contact] if self._is_held_by(holder, contact, other)]
        ours = self._find(top)
        ours.reachable = True
        ours.joined_at = _latest(ours.joined_at, at)
        self._move(contact, self.current.get(top, top), at)
        self.refused.pop((link.link_id, contact), None)
        self.joins.append(Join(link.link_id, top, contact, at, "moved"))
        for other in former:
            self._wait(self.links[other], other, contact, day + 1)

    def _wait(self, link: LinkFact, position: int, contact: int, earliest: int) -> None:
        """Look at a claim again on its first active day from ``earliest`` on."""
        for start, end in link.active_days:
            if earliest < end:
                day = date.fromordinal(max(start, earliest))
                at = datetime.combine(day, time(), UTC)
                heapq.heappush(self.queue, self._turn(at, "", position, contact))
                return

    def _claim_again(self, contact: int, link: LinkFact, position: int, at: datetime) -> None:
        cold = self._list_cold(n for n in link.node_ids if n in self.by_id)
        top = min(cold, key=self._strength)
        ours, theirs = self._find(top), self._find(contact)
        if top == contact or ours is theirs or self._are_apart(ours, theirs, link, contact):
            return
        reason = self._conflict(ours, theirs, link, False)
        if reason is None:
            self._unite(ours, theirs, at)
            self.joins.append(Join(link.link_id, top, contact, at, "seen_together"))
            return
        self._refuse(link, top, contact, reason, at)
        if reason != "limit":
            self._contest(link, position, top, contact, at)

    def _last_held(self, contact: int, day: int) -> int:
        """Return the last day, up to ``day``, on which the holder was seen with the contact."""
        holder = self._find(contact)
        last = self.by_id[contact].first_seen.astimezone(UTC).toordinal()
        for position in self.done[contact]:
            if self._is_held_by(holder, contact, position):
                for start, end in self.links[position].active_days:
                    if start <= day:
                        last = max(last, min(end - 1, day))
        return last

    def _is_held_by(self, holder: _Cluster, contact: int, position: int) -> bool:
        return any(
            node_id != contact and node_id in self.by_id and self._find(node_id) is holder
            for node_id in self.links[position].node_ids
        )

    # ── The result ──────────────────────────────────────────────────────────────────────────

    def moot_refusals(self) -> set[tuple[int, int]]:
        """Return the refusals that parted a device from a person it belongs to in the end."""
        return {
            key
            for key, refusal in self.refused.items()
            if refusal.weak in self.moves
            and self.rule_by_node[refusal.weak].strength == "ephemeral"
            and refusal.reason not in ("hot_identifier", "blocked", "shared_device")
            and self.cluster_of[refusal.weak] is self._find(refusal.strong)
            and key not in self.excused
        }

    def result(self) -> Resolution:
        names: dict[int, ProfileKey] = {}
        joined_at: dict[ProfileKey, datetime | None] = {}
        for element, cluster in self.cluster_of.items():
            if id(cluster) in names:
                continue
            if element < 0:
                name = ProfileKey(-element, True)
            else:
                name = ProfileKey(min(cluster.elements, key=self._age))
            names[id(cluster)] = name
            joined_at[name] = cluster.joined_at
        for refusal in self.passed_over:
            if self.cluster_of[refusal.weak] is not self._find(refusal.strong):
                self.refused.setdefault((refusal.link_id, refusal.weak), refusal)
        assignments = {node_id: tuple(self._assign(node_id, names)) for node_id in self.by_id}
        return Resolution(
            assignments,
            joined_at,
            tuple(sorted(self.refused.values(), key=lambda r: (r.at, r.link_id, r.weak))),
            tuple(self.joins),
            frozenset(self.by_id.keys() & self.hot),
        )

    def _age(self, node_id: int) -> tuple[datetime, _Rank]:
        return self.by_id[node_id].first_seen, self._strength(node_id)

    def _assign(self, node_id: int, names: Mapping[int, ProfileKey]) -> Iterable[Assignment]:
        since: datetime | None = None
        profile = names[id(self.cluster_of[node_id])]
        for at, element in self.moves.get(node_id, ()):
            following = names[id(self.cluster_of[element])]
            if following == profile or at == since:
                profile = following
                continue
            yield Assignment(node_id, since, at, profile)
            since, profile = at, following
        yield Assignment(node_id, since, None, profile)


def _latest(*times: datetime | None) -> datetime | None:
    known = [time for time in times if time is not None]
    return max(known) if known else None
