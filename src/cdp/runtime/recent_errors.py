"""The last faults of this process, for the status page. Kept in memory, without values."""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime
from typing import Any

from cdp.runtime.clock import format_time


class RecentErrors:
    """Remembers the newest faults. Thread-safe."""

    def __init__(self, most: int = 20) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=most)
        self._lock = threading.Lock()

    def add(self, at: datetime, where: str, error: BaseException) -> None:
        """Remember the kind of ``error`` and where it happened."""
        entry = {"at": format_time(at), "where": where, "error": type(error).__name__}
        with self._lock:
            self._entries.appendleft(entry)

    def list(self) -> list[dict[str, Any]]:
        """Return the faults, newest first."""
        with self._lock:
            return list(self._entries)
