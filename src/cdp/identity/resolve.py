"""Who is who: the replay of one component's links, a pure function of the *set* of facts.

Links are taken in canonical order (event time, message id). Inside a link the weaker identifiers
join the strongest. A join that the rules forbid is refused and kept with its reason; a refused
device is shared from that moment on, a refused contact moves once its holder has long been silent.
Neither the order of arrival, nor duplicates, nor the cut into batches can change the result.

``clusters`` holds who is with whom, ``verdicts`` says what the rules forbid, ``devices`` and
``contested`` what becomes of a device and of a contact that was refused.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from cdp.identity.by_hand import list_apart
from cdp.identity.clusters import Clusters, Rank
from cdp.identity.contested import Contested
from cdp.identity.devices import Devices
from cdp.identity.facts import Join, JoinRule, LinkFact, Node, Reason, Refusal, Resolution
from cdp.identity.hot import find_hot
from cdp.identity.identifiers import is_blocked
from cdp.identity.rules import Rules
from cdp.identity.twins import fold
from cdp.identity.verdicts import Verdicts
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
    folded = fold(by_id, facts, blocked)
    if folded is not None:
        return folded.unfold(resolve(folded.nodes, folded.links, rules))
    cold = {n: by_id[n] for n in by_id.keys() - blocked} if blocked else by_id
    hot = find_hot(cold, [link for link in facts if link.kind == "seen"], rules)
    script = _Script(by_id, facts, rules, hot, blocked)
    excused: set[tuple[int, int]] = set()
    while True:
        replay = _Replay(script, excused)
        replay.run()
        moot = replay.list_moot()
        if not moot:
            return replay.tell()
        excused |= moot


_Turn = tuple[datetime, str, tuple[Rank, ...], bool, tuple[Rank, ...], int, int]
"""When a link has its turn, and what breaks ties; the contact to claim again or 0; the link."""


class _Script:
    """What is the same whenever the links are replayed: the order of all things."""

    def __init__(
        self,
        by_id: Mapping[int, Node],
        facts: Iterable[LinkFact],
        rules: Rules,
        hot: frozenset[int],
        blocked: frozenset[int],
    ) -> None:
        self.by_id = by_id
        self.rules = rules
        self.hot = hot
        self.blocked = blocked
        self.apart = list_apart(facts)
        self.links = [link for link in facts if not link.parts_by_hand]
        self.ranks = {
            n: rules.order_of(Identifier(one.type, one.value)) for n, one in by_id.items()
        }
        self.present = [
            sorted((n for n in link.node_ids if n in by_id), key=self.ranks.__getitem__)
            for link in self.links
        ]
        """Per link its nodes, the strongest first."""
        self.turns = sorted(
            self.turn(link.first_at, link.first_message_id, position, 0)
            for position, link in enumerate(self.links)
        )

    def turn(self, at: datetime, message_id: str, position: int, contact: int) -> _Turn:
        """Return the turn of a link at ``at``, to take effect or to claim a contact again."""
        # By identifiers, not by node ids: those depend on the order of arrival.
        names = tuple([self.ranks[node_id] for node_id in self.present[position]])
        again = (self.ranks[contact],) if contact else ()
        return at, message_id, names, self.links[position].trusted, again, contact, position


class _Replay:
    """One reading of the links, with some refusals excused."""

    def __init__(self, script: _Script, excused: Collection[tuple[int, int]]) -> None:
        self._script = script
        self._by_id = script.by_id
        self._links = script.links
        self._hot = script.hot
        self._blocked = script.blocked
        self._excused = excused
        self._clusters = Clusters(script.by_id, script.ranks, script.rules)
        self._verdicts = Verdicts(self._clusters, script.rules, script.apart)
        self._devices = Devices(self._clusters)
        self._contested = Contested(self._clusters, script.links, script.rules.rebind_after.days)
        self._refused: dict[tuple[int, int], Refusal] = {}
        self._passed_over: list[Refusal] = []
        self._joins: list[Join] = []
        self._queue = list(script.turns)

    def run(self) -> None:
        """Let every link take effect in its turn."""
        while self._queue:
            at, _, _, _, _, contact, position = heapq.heappop(self._queue)
            if contact:
                self._claim_again(contact, position, at)
            else:
                self._replay_link(self._links[position], position, at)

    def _replay_link(self, link: LinkFact, position: int, at: datetime) -> None:
        present = self._script.present[position]
        cold = self._list_cold(present)
        if not cold:
            return
        if len(cold) < len(present):
            self._withhold(link, present, cold[0], at)
        for node_id in cold:
            if self._clusters.is_contact(node_id):
                self._contested.remember(node_id, position)
        # Those that were parted from the strongest by hand were seen with each other all the same.
        while cold:
            top, *weaker = cold
            cold = [weak for weak in weaker if not self._join(link, position, top, weak, at)]

    def _withhold(self, link: LinkFact, node_ids: Iterable[int], top: int, at: datetime) -> None:
        """Refuse what ties nobody together."""
        for node_id in node_ids:
            if node_id in self._blocked:
                self._refuse(link, top, node_id, "blocked", at)
            elif self._by_id[node_id].is_beyond_cap:
                self._refuse(link, top, node_id, "limit", at)
            elif node_id in self._hot:
                self._refuse(link, top, node_id, "hot_identifier", at)

    def _list_cold(self, node_ids: Iterable[int]) -> list[int]:
        return [n for n in node_ids if n not in self._hot and n not in self._blocked]

    def _join(self, link: LinkFact, position: int, top: int, weak: int, at: datetime) -> bool:
        """Let ``weak`` to the person of ``top``, or refuse. False: they were parted by hand."""
        ours, theirs = self._clusters.find(top), self._clusters.find(weak)
        if self._verdicts.were_parted(ours, theirs, link, weak):
            self._refuse(link, top, weak, "parted_by_hand", at)
            return False
        is_device = self._clusters.is_device(weak)
        if ours is not theirs:
            reason = self._verdicts.object_to(ours, theirs, link, by_device=is_device)
            if reason is None:
                self._clusters.unite(ours, theirs, at)
                rule: JoinRule = "by_hand" if link.joins_by_hand else "seen_together"
                self._joins.append(Join(link.link_id, top, weak, at, rule))
            elif (link.link_id, weak) in self._excused:
                self._passed_over.append(Refusal(link.link_id, top, weak, reason, at))
            else:
                self._refuse(link, top, weak, reason, at)
                if not link.joins_by_hand and reason != "limit":
                    self._follow_up(link, position, top, weak, at)
        if is_device:
            self._devices.remember(weak, top)
        return True

    def _refuse(self, link: LinkFact, top: int, weak: int, reason: Reason, at: datetime) -> None:
        key = (link.link_id, weak)
        self._refused.setdefault(key, Refusal(link.link_id, top, weak, reason, at))

    def _follow_up(self, link: LinkFact, position: int, top: int, weak: int, at: datetime) -> None:
        """Say what becomes of an identifier that was not let to the person of ``top``."""
        if self._clusters.is_device(weak):
            if self._devices.part(weak, top, at) == "moved":
                self._joins.append(Join(link.link_id, top, weak, at, "moved"))
        elif self._clusters.is_contact(weak):
            self._claim(link, position, top, weak, at)

    def _claim(self, link: LinkFact, position: int, top: int, contact: int, at: datetime) -> None:
        has_moved, waits = self._contested.claim(contact, top, position, at)
        if has_moved:
            self._refused.pop((link.link_id, contact), None)
            self._joins.append(Join(link.link_id, top, contact, at, "moved"))
        for wait in waits:
            turn = self._script.turn(wait.at, "", wait.position, contact)
            heapq.heappush(self._queue, turn)

    def _claim_again(self, contact: int, position: int, at: datetime) -> None:
        """Look at a claim again on a day on which it was repeated."""
        link, find = self._links[position], self._clusters.find
        top = self._list_cold(self._script.present[position])[0]
        ours, theirs = find(top), find(contact)
        if (
            top == contact
            or ours is theirs
            or self._verdicts.were_parted(ours, theirs, link, contact)
        ):
            return
        reason = self._verdicts.object_to(ours, theirs, link, by_device=False)
        if reason is None:
            self._clusters.unite(ours, theirs, at)
            self._joins.append(Join(link.link_id, top, contact, at, "seen_together"))
            return
        self._refuse(link, top, contact, reason, at)
        if reason != "limit":
            self._claim(link, position, top, contact, at)

    def list_moot(self) -> set[tuple[int, int]]:
        """Return the refusals that parted a device from a person it belongs to in the end."""
        clusters = self._clusters
        return {
            key
            for key, refusal in self._refused.items()
            if refusal.weak in clusters.moves
            and clusters.is_device(refusal.weak)
            and refusal.reason not in ("hot_identifier", "blocked", "shared_device")
            and clusters.find_first(refusal.weak) is clusters.find(refusal.strong)
            and key not in self._excused
        }

    def tell(self) -> Resolution:
        """Put into words what the links came to."""
        clusters = self._clusters
        for refusal in self._passed_over:
            if clusters.find_first(refusal.weak) is not clusters.find(refusal.strong):
                self._refused.setdefault((refusal.link_id, refusal.weak), refusal)
        names = clusters.name()
        return Resolution(
            clusters.assign(names, self._by_id),
            {key: cluster.joined_at for key, cluster in names.items()},
            tuple(sorted(self._refused.values(), key=lambda r: (r.at, r.link_id, r.weak))),
            tuple(self._joins),
            frozenset(self._by_id.keys() & self._hot),
        )
