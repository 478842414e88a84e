"""Devices that several people use. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from cdp.identity.clusters import Clusters


class Devices:
    """Remembers who was seen on which device, and parts devices from people."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters
        self._companions: dict[int, list[int]] = {}
        """Per device: the non-devices that it was seen with."""

    def remember(self, device: int, top: int) -> None:
        """Keep that a device was seen with the strongest identifier of a link."""
        if not self._clusters.is_device(top):
            self._companions.setdefault(device, []).append(top)

    def part(self, device: int, top: int, at: datetime) -> Literal["moved", "shared"] | None:
        """Part a device from its person from ``at`` on, when ``top`` was refused on it.

        It follows the newcomer when nobody else was ever seen on it (its owner came to it only
        through another device); else it is shared, and becomes a profile of its own. ``None``:
        it is shared already, or ``top`` is nobody.
        """
        find = self._clusters.find
        ours = find(top)
        if find(device).shared or not ours.is_person:
            return None
        if any(find(other) is not ours for other in self._companions.get(device, ())):
            self._clusters.move_to_own(device, at)
            return "shared"
        self._clusters.move_to(device, top, at)
        return "moved"
