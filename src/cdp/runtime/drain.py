"""A file that is only written, and gives away what it has: writers become streams with it."""

from __future__ import annotations

import io
from typing import Any


class Drain(io.RawIOBase):
    """Hand it to what writes files; ``take`` what was written so far."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken
