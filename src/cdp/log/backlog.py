"""Appends under way, bounded in bytes and in time, whatever the log behind does or fails to do.

A caller always gets its answer: a full backlog refuses at once, and an append that the log has
not acknowledged in time fails, even when the client library or the server hangs. Once the log has
proved to be away, one append at a time tries it and the others are refused at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from cdp.log.port import LogUnavailable, NewRecord
from cdp.runtime.logs import get_logger

_LOOK_EVERY_SECONDS = 0.5

_log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class Append:
    """One call of ``append``: its records, and the future that its caller holds."""

    records: Sequence[NewRecord]
    size: int
    deadline: float
    future: Future[list[int]] = field(default_factory=Future)

    @property
    def is_answered(self) -> bool:
        """Whether the caller already has an answer, so that the work would be in vain."""
        return self.future.done()


class Backlog:
    """The appends that wait for an acknowledgement. Thread-safe."""

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout_seconds: float,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """Hold at most ``max_bytes``; fail what is older than ``timeout_seconds``.

        ``on_silence`` is called after that, when nobody else will notice that the log hangs.
        """
        self._on_silence = on_silence
        self._max_bytes = max_bytes
        self._timeout = timeout_seconds
        self._lock = threading.Condition()
        # Ordered by deadline, because the timeout is the same for all.
        self._open: dict[Append, None] = {}
        self._bytes = 0
        self._away: str | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="log-backlog", daemon=True).start()

    def admit(self, records: Sequence[NewRecord]) -> Append:
        """Return the append to work on. It is answered already when there is no room for it
        or nothing in it."""
        size = sum(len(record.value) + 200 for record in records)
        append = Append(records, size, time.monotonic() + self._timeout)
        # Running: a caller that gives up must not make the answer fail.
        append.future.set_running_or_notify_cancel()
        if not records:
            append.future.set_result([])
            return append
        with self._lock:
            refusal = self._refuse(size)
            if refusal is None:
                self._open[append] = None
                self._bytes += size
        if refusal is not None:
            append.future.set_exception(refusal)
        return append

    def _refuse(self, size: int) -> LogUnavailable | None:
        if self._closed.is_set():
            return LogUnavailable("the log is closed")
        if self._away is not None and self._open:
            return LogUnavailable(self._away)
        # A single append may be larger than the bound, or it could never be taken.
        if self._bytes and self._bytes + size > self._max_bytes:
            return LogUnavailable("too many events are waiting for the log")
        return None

    def settle(self, append: Append, offsets: list[int]) -> None:
        """Answer that the records are durable. Does nothing when the time had run out."""
        if self._away is not None:
            self._away = None
            _log.info("log_is_back")
        if self._take(append):
            append.future.set_result(offsets)

    def fail(self, append: Append, reason: str, *, is_away: bool = True) -> None:
        """Answer that the log could not take the records.

        ``is_away`` is whether it would have taken no others either.
        """
        if self._take(append):
            if is_away and self._away is None and not self._closed.is_set():
                self._away = reason
                _log.warning("log_is_away", reason=reason)
            append.future.set_exception(LogUnavailable(reason))

    def close(self, timeout_seconds: float) -> None:
        """Refuse from now on; wait for what is under way, then fail the rest."""
        self._closed.set()
        with self._lock:
            self._lock.wait_for(lambda: not self._open, timeout_seconds)
        self._expire(float("inf"))

    def _take(self, append: Append) -> bool:
        with self._lock:
            if append not in self._open:
                return False
            del self._open[append]
            self._bytes -= append.size
            if not self._open:
                self._lock.notify_all()
            return True

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_EVERY_SECONDS):
            self._expire(time.monotonic())

    def _expire(self, now: float) -> None:
        with self._lock:
            late = [append for append in self._open if append.deadline <= now]
        for append in late:
            self.fail(append, f"no acknowledgement within {self._timeout:g} s")
        if late and not self._closed.is_set():
            self._on_silence()
