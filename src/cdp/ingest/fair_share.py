"""A bounded number of bytes, shared by sources so that none can starve another. Pure.

While there is plenty of room anybody may take of it. When it is nearly full, those who hold more
than their fair share are refused first, and the rest is left to the others.
"""

from __future__ import annotations

_NEARLY_FULL = 0.75


class FairShare:
    """Counts who holds how many of ``max_bytes``. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._nearly = int(max_bytes * _NEARLY_FULL)
        self.held = 0
        """Bytes held by all."""
        self._by_owner: dict[str, int] = {}

    def take(self, owner: str, size: int) -> bool:
        """Take ``size`` bytes for ``owner``; return whether they were to be had.

        What is larger than all of it passes when nobody holds anything, or it never could.
        """
        held = self.held + size
        own = self._by_owner.get(owner, 0)
        if held > self._nearly and self.held:
            if held > self._max:
                return False
            # One more than there are: room for somebody who comes new.
            owners = len(self._by_owner) + (owner not in self._by_owner)
            if own + size > self._max / (owners + 1):
                return False
        self.held = held
        self._by_owner[owner] = own + size
        return True

    def give_back(self, owner: str, size: int) -> None:
        """Return ``size`` bytes that ``owner`` had taken."""
        self.held -= size
        own = self._by_owner[owner] - size
        if own:
            self._by_owner[owner] = own
        else:
            del self._by_owner[owner]
