"""One who watches: a bounded queue between the thread that reads and the connection that sends."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator

from cdp.ingest.live.lines import write_frame

MOST_WAITING = 500
"""Messages. Whoever reads more slowly than they come is told how many were passed over."""
HEARTBEAT_SECONDS = 10.0

_OPENED = b": listening\n\n"
_HEARTBEAT = b": still here\n\n"


class Listener:
    """What one connection is to be sent. ``put`` and ``skip`` come from any thread."""

    def __init__(self, source_id: str, *, sees_personal: bool) -> None:
        """Must be made in the event loop that sends."""
        self.source_id = source_id
        self.sees_personal = sees_personal
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._skipped = 0
        self.shown = 0
        """Messages that were sent."""
        self._is_ended = False

    def put(self, frame: bytes) -> None:
        """Let ``frame`` be sent, or count it as passed over. Never waits."""
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(frame)
            else:
                self._skipped += 1
        self._ring()

    def skip(self, count: int) -> None:
        """Count messages that nobody made because there were too many."""
        with self._lock:
            self._skipped += count
        self._ring()

    def end(self) -> None:
        """Let the stream end after what waits."""
        self._is_ended = True
        self._ring()

    def _ring(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def frames(self) -> AsyncIterator[bytes]:
        """Give what is to be sent, piece by piece, until ``end``."""
        yield _OPENED
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield _HEARTBEAT
                continue
            self._wake.clear()
            is_last = self._is_ended
            frames = self._take()
            if frames:
                yield frames
            if is_last:
                yield write_frame({"state": "ended"})
                return

    def _take(self) -> bytes:
        with self._lock:
            frames = b"".join(self._waiting)
            self.shown += len(self._waiting)
            self._waiting.clear()
            skipped, self._skipped = self._skipped, 0
        return frames + write_frame({"state": "skipped", "count": skipped}) if skipped else frames
