"""Contacts that several people claim: they stay with the holder while he uses them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import NamedTuple

from cdp.identity.clusters import Cluster, Clusters, find_latest
from cdp.identity.facts import LinkFact


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

    def remember(self, contact: int, position: int) -> None:
        """Keep that a link which takes effect holds a contact."""
        self._done.setdefault(contact, []).append(position)

    def claim(self, contact: int, top: int, position: int, at: datetime) -> tuple[bool, list[Wait]]:
        """Let a contact move to its claimant when its holder has been silent for long enough.

        Returns whether it moved, and which claims are to be looked at again.
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
        for start, end in self._links[position].active_days:
            if earliest < end:
                day = date.fromordinal(max(start, earliest))
                return [Wait(position, datetime.combine(day, time(), UTC))]
        return []

    def _find_last_held(self, contact: int, day: int) -> int:
        """Return the last day, up to ``day``, on which the holder was seen with the contact."""
        holder = self._clusters.find(contact)
        last = self._clusters.by_id[contact].first_seen.astimezone(UTC).toordinal()
        for position in self._done[contact]:
            if self._is_held_by(holder, contact, position):
                for start, end in self._links[position].active_days:
                    if start <= day:
                        last = max(last, min(end - 1, day))
        return last

    def _is_held_by(self, holder: Cluster, contact: int, position: int) -> bool:
        by_id, find = self._clusters.by_id, self._clusters.find
        return any(
            node_id != contact and node_id in by_id and find(node_id) is holder
            for node_id in self._links[position].node_ids
        )
