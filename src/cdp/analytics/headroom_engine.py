"""Memory for the ends of transactions, and for the writer beside people's statements.

DuckDB does not survive it when memory is short at the end of a transaction: what it cannot pin
then stays half cleaned up, and whoever comes to it later reads freed memory, or the file is lost
to the process (duckdb/duckdb pull request 26019, issue 22860). So transactions that may end beside
statements that take all memory end with the limit raised, after the statement has let go of its
results.
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from cdp.runtime.logs import get_logger

Duck = duckdb.DuckDBPyConnection
OpenCursor = Callable[[], Duck]
"""Opens a cursor of the file whose limit is meant."""

_log = get_logger(__name__)

_TIMES = 2
_SIZE = re.compile(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*")


class MemoryNeeded(Exception):
    """The statement was stopped because the writer found no memory beside it."""


class PeoplesStatements:
    """The statements of people that run now. Any thread may stop them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: set[Duck] = set()
        self._leaving: set[Duck] = set()
        self._stopped: set[Duck] = set()

    def __bool__(self) -> bool:
        return bool(self._running or self._leaving)

    @contextmanager
    def among(self, cursor: Duck) -> Iterator[None]:
        """Count what ``cursor`` does as a person's. Raises ``MemoryNeeded`` when it was stopped."""
        with self._changed:
            self._running.add(cursor)
        try:
            yield
        except duckdb.InterruptException as error:
            if cursor in self._stopped:
                raise MemoryNeeded("stopped, because memory ran out") from error
            raise
        finally:
            with self._changed:
                for each in (self._running, self._leaving, self._stopped):
                    each.discard(cursor)
                self._changed.notify_all()

    def leave(self, cursor: Duck) -> None:
        """Let nobody interrupt ``cursor`` from now on: it only cleans up."""
        with self._changed:
            self._running.discard(cursor)
            self._leaving.add(cursor)

    def stop(self, seconds: float) -> None:
        """Interrupt those that run; wait until they have let go, for up to ``seconds``."""
        until = time.monotonic() + seconds
        with self._changed:
            meant = self._running | self._leaving
            if meant:
                _log.warning("analytics_statements_stopped", statements=len(meant))
            while meant & (self._running | self._leaving) and time.monotonic() < until:
                # Again and again: one that is between two statements does not notice.
                for cursor in meant & self._running:
                    self._stopped.add(cursor)
                    cursor.interrupt()
                self._changed.wait(0.02)


class Headroom:
    """Raises the memory limit of a file for a moment."""

    def __init__(self, memory: str) -> None:
        """``memory`` is the limit at other times, such as ``512MB``."""
        self._memory = memory
        found = _SIZE.fullmatch(memory)
        self._raised = f"{float(found[1]) * _TIMES:g}{found[2]}" if found else memory
        self._lock = threading.Lock()
        self._users = 0

    def raise_limit(self, open_cursor: OpenCursor) -> None:
        """Let there be twice the memory, until ``lower`` was called as often."""
        with self._lock:
            self._users += 1
            _set_limit(open_cursor, self._raised)

    def lower(self, open_cursor: OpenCursor) -> bool:
        """Return whether no more than the limit is held; else call ``settle``."""
        with self._lock:
            self._users -= 1
        return self.settle(open_cursor)

    def settle(self, open_cursor: OpenCursor) -> bool:
        """Set the limit again, unless somebody needs it raised; return whether that is done."""
        with self._lock:
            return bool(self._users) or _set_limit(open_cursor, self._memory)


def _set_limit(open_cursor: OpenCursor, memory: str) -> bool:
    with open_cursor() as cursor:
        try:
            cursor.execute(f"SET GLOBAL memory_limit = '{memory}'")
        except duckdb.OutOfMemoryException:
            return False
    return True


def drop_results(error: BaseException) -> None:
    """Let go of what the frames of a failure hold: results keep memory, and a transaction."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
