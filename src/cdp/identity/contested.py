"""Contacts that several people claim: they stay with the holder while he uses them. Pure."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import NamedTuple

from cdp.identity.clusters import Cluster, Clusters, find_latest
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
        ours.joined_at = find_latest(ours.joined_at, at)
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
        if holding is None or not holding.is_of(holder):
            holding = self._holdings[contact] = _Holding(holder)
        for position in holding.find_new(self._done[contact]):
            if self._is_held_by(holder, contact, position):
                holding.add(position, self._links[position].active_days, day)
            else:
                holding.put_aside(position, self._links[position].node_ids, contact)
        for node_id in self._clusters.list_joined(holder, holding.elements):
            for position in holding.take(node_id):
                holding.add(position, self._links[position].active_days, day)
        holding.elements = len(holder.elements)
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

    Kept up as links are replayed and as the holder takes in others, so that a claim need not look
    at all links again. Starts anew when the contact has another holder, or when an identifier has
    moved to or from this one.
    """

    def __init__(self, holder: Cluster) -> None:
        self._holder = holder
        self._moves = holder.moves
        self.elements = len(holder.elements)
        """How many of the holder's elements have been looked at."""
        self._seen = 0
        """How many of the contact's links have been looked at."""
        self._aside: dict[int, list[int]] = {}
        """Links that are not the holder's, by each node that would make them so."""
        self._end = 0
        """The day after the last one of the stretches of days that have begun."""
        self._coming: list[tuple[int, int, int]] = []
        """A heap of stretches that have not: first day, position of the link, of the stretch."""

    def is_of(self, holder: Cluster) -> bool:
        """Whether what is known still holds."""
        return holder is self._holder and holder.moves == self._moves

    def find_new(self, positions: Sequence[int]) -> Sequence[int]:
        """Return those links that have not been looked at."""
        new = positions[self._seen :]
        self._seen = len(positions)
        return new

    def put_aside(self, position: int, node_ids: Sequence[int], contact: int) -> None:
        """Keep a link that is not the holder's, yet."""
        for node_id in node_ids:
            if node_id != contact:
                self._aside.setdefault(node_id, []).append(position)

    def take(self, node_id: int) -> Sequence[int]:
        """Return the links that become the holder's because this node has."""
        return self._aside.pop(node_id, ())

    def add(self, position: int, ranges: Sequence[DayRange], day: int) -> None:
        """Count a link among the holder's."""
        begun = bisect_right(ranges, day, key=_start)
        if begun:
            self._end = max(self._end, ranges[begun - 1][1])
        if begun < len(ranges):
            heapq.heappush(self._coming, (ranges[begun][0], position, begun))

    def find_last(self, day: int, links: Sequence[LinkFact]) -> int:
        """Return the last day on which the contact was held, up to ``day``; 0 if never."""
        while self._coming and self._coming[0][0] <= day:
            _, position, _ = heapq.heappop(self._coming)
            self.add(position, links[position].active_days, day)
        return min(self._end - 1, day)


def _start(days: DayRange) -> int:
    return days[0]


def _end(days: DayRange) -> int:
    return days[1]
