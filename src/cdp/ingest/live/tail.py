"""One thread reads the end of the log for all who watch; it runs only while somebody does.

    log ─► lines of the sources watched ─► "received" ─► wait for the worker ─► "stored", …

It reads over a log handle of its own, so that it holds up nobody, and keeps a bounded number of
lines in mind: whoever watches too much is told how much was passed over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa

from cdp.errors import CdpError, SetupError, TooManyRequests, Unavailable
from cdp.ingest.live.lines import NameRecord, SeenLine, see_lines, show_raw, write_frame
from cdp.ingest.live.listener import Listener
from cdp.ingest.live.outcomes_store import Outcome, read_newest_batch, settle_lines
from cdp.log.format import UnknownFormat, read_requests
from cdp.log.port import Log, LogUnavailable, Record
from cdp.model import Source
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver

MOST_LISTENERS = 20
_MOST_PENDING = 5000
"""Lines whose outcome is awaited, in all."""
_MOST_PER_READ = 500
_READ_BYTES = 1024 * 1024
_IDLE_SECONDS = 0.5
_SETTLE_SECONDS = 0.05
_OPEN_SECONDS = 15.0

_AWAY = (sa.exc.SQLAlchemyError, psycopg.Error, LogUnavailable, SetupError)

_log = get_logger(__name__)


@dataclass(slots=True)
class _Reading:
    """Where the thread stands."""

    log: Log
    positions: dict[int, int]
    after: int
    """Batches up to this one have been looked at."""
    pending: dict[int, deque[SeenLine]] = field(default_factory=dict)
    settled_at: float = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether a line has no outcome yet."""
        return any(self.pending.values())


class LiveTail:
    """Lets connections of this process watch sources. ``listen`` and ``leave`` in an event loop."""

    def __init__(
        self,
        database: Database,
        open_log: Callable[[], Log],
        find_source: Callable[[str], Source | None],
        name_record: NameRecord,
    ) -> None:
        """``open_log`` opens a handle of the thread's own; nothing is opened before ``listen``."""
        self._database = database
        self._open_log = open_log
        self._find_source = find_source
        self._name_record = name_record
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._ready: Future[None] = Future()
        self._is_ending = False

    async def listen(self, source_id: str, *, sees_personal: bool) -> Listener:
        """Return a listener to whom everything that arrives from now on is told.

        Raises ``TooManyRequests`` when too many watch, ``Unavailable`` when the log is away.
        """
        listener = Listener(source_id, sees_personal=sees_personal)
        with self._lock:
            self._check_room()
            self._listeners.add(listener)
            if self._thread is None:
                self._ready = Future()
                self._thread = threading.Thread(
                    target=self._run, args=(self._ready,), name="live-tail", daemon=True
                )
                self._thread.start()
            ready = self._ready
        try:
            await asyncio.wait_for(asyncio.wrap_future(ready), _OPEN_SECONDS)
        except (TimeoutError, *_AWAY) as error:
            self.leave(listener)
            message = "the log does not answer"
            raise Unavailable("log_unavailable", message, retry_after=5) from error
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def _check_room(self) -> None:
        if self._is_ending:
            raise Unavailable("stopping", "the server is stopping", retry_after=5)
        if len(self._listeners) >= MOST_LISTENERS:
            raise _too_many()

    def leave(self, listener: Listener) -> None:
        """Forget a listener. The thread ends with the last one."""
        with self._lock:
            self._listeners.discard(listener)

    def end(self) -> None:
        """End all streams: the server stops. Safe in a signal handler's thread."""
        self._is_ending = True
        for listener in tuple(self._listeners):
            listener.end()

    def close(self) -> None:
        """End all streams and wait for the thread."""
        self.end()
        with self._lock:
            self._listeners.clear()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _run(self, ready: Future[None]) -> None:
        reading: _Reading | None = None
        try:
            reading = self._start()
            ready.set_result(None)
            while self._is_wanted():
                try:
                    self._step(reading)
                except _AWAY as error:
                    _log.warning("live_tail_waits", reason=type(error).__name__)
                    time.sleep(1)
        except Exception as error:
            if not ready.done():
                ready.set_exception(error)
            else:
                _log.error("live_tail_failed", exc_info=error)
            self._give_up()
        finally:
            if reading is not None:
                reading.log.close()

    def _start(self) -> _Reading:
        log = self._open_log()
        try:
            # The batch first: what is appended after the look at the log is worked off after it.
            with self._database.transaction() as connection:
                after = read_newest_batch(driver(connection))
            return _Reading(log, log.end_positions(), after)
        except BaseException:
            log.close()
            raise

    def _is_wanted(self) -> bool:
        with self._lock:
            if not self._listeners:
                self._thread = None
            return bool(self._listeners)

    def _give_up(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
            self._listeners.clear()
            self._thread = None
        for listener in listeners:
            listener.end()

    def _step(self, reading: _Reading) -> None:
        wait = _SETTLE_SECONDS if reading.is_waiting else _IDLE_SECONDS
        records = reading.log.read(reading.positions, max_bytes=_READ_BYTES, wait_seconds=wait)
        watched = self._list_watched()
        room = dict.fromkeys(watched, _MOST_PER_READ)
        for record in records:
            reading.positions[record.partition] = record.offset + 1
            source_id = record.headers.get("cdp-source", "")
            if source_id in watched:
                room[source_id] -= self._show(record, watched[source_id], reading, room[source_id])
        if reading.is_waiting and time.monotonic() - reading.settled_at >= _SETTLE_SECONDS:
            self._settle(reading)
            reading.settled_at = time.monotonic()

    def _list_watched(self) -> dict[str, list[Listener]]:
        watched: dict[str, list[Listener]] = {}
        with self._lock:
            for listener in self._listeners:
                watched.setdefault(listener.source_id, []).append(listener)
        return watched

    def _show(
        self, record: Record, listeners: Sequence[Listener], reading: _Reading, room: int
    ) -> int:
        """Tell of the lines of a record, at most ``room``; return how many that were."""
        source = self._find_source(listeners[0].source_id)
        lines = sum(count for *_, count in read_requests(record.headers))
        pending = reading.pending.setdefault(record.partition, deque())
        room = min(room, _MOST_PENDING - sum(map(len, reading.pending.values())))
        shown = 0
        try:
            if source is not None and room > 0:
                for line, raw in see_lines(record, source, self._name_record, most=room):
                    _tell_received(line, raw, listeners)
                    pending.append(line)
                    shown += 1
        except UnknownFormat:
            frame = write_frame({"state": "rejected", "code": "unknown_format", "count": lines})
            for listener in listeners:
                listener.put(frame)
            return lines
        if shown < lines:
            for listener in listeners:
                listener.skip(lines - shown)
        return shown

    def _settle(self, reading: _Reading) -> None:
        with self._database.snapshot() as connection:
            reading.after, outcomes = settle_lines(
                driver(connection), reading.log.name, reading.pending, reading.after
            )
        watched = self._list_watched()
        for outcome in outcomes:
            _tell_outcome(outcome, watched.get(outcome.line.source_id, ()))


def _tell_received(line: SeenLine, raw: bytes, listeners: Sequence[Listener]) -> None:
    frames: dict[bool, bytes] = {}
    for listener in listeners:
        sees = listener.sees_personal
        if sees not in frames:
            text = show_raw(raw, sees_personal=sees)
            frames[sees] = write_frame({"state": "received", **line.shown, **text})
        listener.put(frames[sees])


def _tell_outcome(outcome: Outcome, listeners: Sequence[Listener]) -> None:
    if listeners:
        frame = write_frame({**outcome.shown, **outcome.line.shown})
        for listener in listeners:
            listener.put(frame)


def _too_many() -> CdpError:
    message = f"{MOST_LISTENERS} connections watch sources of this server already"
    return TooManyRequests("too_many_listeners", message, retry_after=30)
