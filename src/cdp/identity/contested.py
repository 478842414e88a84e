"""Contacts that several people claim: they stay with the holder while he uses them. Pure."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import NamedTuple

from cdp.identity.clusters import Cluster, Clusters
from cdp.identity.facts import DayRange, LinkFact


class Wait(NamedTuple):
    """A claim to look at again: the position of its link, and when."""

    position: int
    at: datetime


class Contested:
    """Remembers who was seen with which contact, and lets contacts move."""

    def __init__(self, clusters: Clusters, links: Sequence[LinkFact], patience: int) -> None:
        self._clusters = clusters
        self._links = links
        self._patience = patience
        """Days of silence after which a contact moves."""
        self._done: dict[int, list[int]] = {}
        """Per contact: positions of the links replayed so far that hold it."""
        self._holdings: dict[int, _Holding] = {}

    def remember(self, contact: int, position: int) -> None:
        """Keep that a link which takes effect holds a contact."""
        self._done.setdefault(contact, []).append(position)

    def claim(self, contact: int, top: int, position: int, at: datetime) -> tuple[bool, list[Wait]]:
        """Let a contact move to its claimant when its holder has been silent for long enough.

        Returns whether it moved, and which claims are to be looked at again. Claims come in the
        order of time.
        """
        day = at.astimezone(UTC).toordinal()
        last = self._find_last_held(contact, day)
        if day - last <= self._patience:
            return False, self._wait(position, max(day + 1, last + self._patience + 1))
        holder = self._clusters.find(contact)
        former = [p for p in self._done[contact] if self._is_held_by(holder, contact, p)]
        ours = self._clusters.find(top)
        ours.reachable = True
        # What was said before by the contact stays with whom it leaves: no people meet.
        self._clusters.move_to(contact, top, at)
        return True, [wait for other in former for wait in self._wait(other, day + 1)]

    def _wait(self, position: int, earliest: int) -> list[Wait]:
        """Say when a claim was repeated first from the day ``earliest`` on."""
        ranges = self._links[position].active_days
        following = bisect_right(ranges, earliest, key=_end)
        if following == len(ranges):
            return []
        day = date.fromordinal(max(ranges[following][0], earliest))
        return [Wait(position, datetime.combine(day, time(), UTC))]

    def _find_last_held(self, contact: int, day: int) -> int:
        """Return the last day, up to ``day``, on which the holder was seen with the contact."""
        holder = self._clusters.find(contact)
        holding = self._holdings.get(contact)
        if holding is None or holding.holder is not holder:
            holding = self._holdings[contact] = _Holding(holder)
        for node_id in holder.gone[holding.gone :]:
            for position in holding.list_links(node_id):
                if not self._is_held_by(holder, contact, position):
                    holding.held.discard(position)
        for position in holding.find_new(self._done[contact]):
            link = self._links[position]
            holding.remember(position, link.node_ids, contact)
            if self._is_held_by(holder, contact, position):
                holding.add(position, link.active_days, day)
        for node_id in self._clusters.list_joined(holder, holding.elements, holding.come):
            for position in holding.list_links(node_id):
                holding.add(position, self._links[position].active_days, day)
        holding.look_at_all()
        first = self._clusters.by_id[contact].first_seen.astimezone(UTC).toordinal()
        return max(first, holding.find_last(day, self._links))

    def _is_held_by(self, holder: Cluster, contact: int, position: int) -> bool:
        by_id, find = self._clusters.by_id, self._clusters.find
        for node_id in self._links[position].node_ids:
            if node_id != contact and node_id in by_id and find(node_id) is holder:
                return True
        return False


class _Holding:
    """On which days a contact was seen with its holder.

    Kept up as links are replayed and as others join the holder or leave him, so that a claim need
    not look at all links again. Starts anew when the contact has another holder.
    """

    def __init__(self, holder: Cluster) -> None:
        self.holder = holder
        self.held: set[int] = set()
        """Positions of the links that are the holder's."""
        self._seen = 0
        """How many of the contact's links have been looked at."""
        self._by_node: dict[int, list[int]] = {}
        """Links by the nodes that may make them the holder's."""
        # Heaps of stretches of days: those that have begun, the last to end first, and the next
        # to begin of each link. Some are of links that are the holder's no more.
        self._begun: list[tuple[int, int]] = []
        self._coming: list[tuple[int, int]] = []
        self.look_at_all()

    def look_at_all(self) -> None:
        """Keep how much of the holder has been looked at."""
        holder = self.holder
        self.elements, self.come, self.gone = map(len, (holder.elements, holder.come, holder.gone))

    def find_new(self, positions: Sequence[int]) -> Sequence[int]:
        """Return those links that have not been looked at."""
        new = positions[self._seen :]
        self._seen = len(positions)
        return new

    def remember(self, position: int, node_ids: Sequence[int], contact: int) -> None:
        """Keep which nodes may make a link the holder's."""
        for node_id in node_ids:
            if node_id != contact:
                self._by_node.setdefault(node_id, []).append(position)

    def list_links(self, node_id: int) -> Sequence[int]:
        """Return the links that name a node."""
        return self._by_node.get(node_id, ())

    def add(self, position: int, ranges: Sequence[DayRange], day: int) -> None:
        """Count a link among the holder's."""
        if position not in self.held:
            self.held.add(position)
            self._count(position, ranges, day)

    def _count(self, position: int, ranges: Sequence[DayRange], day: int) -> None:
        begun = bisect_right(ranges, day, key=_start)
        if begun:
            heapq.heappush(self._begun, (-ranges[begun - 1][1], position))
        if begun < len(ranges):
            heapq.heappush(self._coming, (ranges[begun][0], position))

    def find_last(self, day: int, links: Sequence[LinkFact]) -> int:
        """Return the last day on which the contact was held, up to ``day``; 0 if never."""
        while self._coming and self._coming[0][0] <= day:
            _, position = heapq.heappop(self._coming)
            if position in self.held:
                self._count(position, links[position].active_days, day)
        while self._begun and self._begun[0][1] not in self.held:
            heapq.heappop(self._begun)
        return min(-self._begun[0][0] - 1, day) if self._begun else 0


def _start(days: DayRange) -> int:
    return days[0]


def _end(days: DayRange) -> int:
    return days[1]
