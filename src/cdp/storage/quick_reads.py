"""Connections for reads of a few rows by key, where what stands around a statement costs most.

Such a read is one statement. It needs no transaction around it, since a statement sees one moment
anyway; its plan is made once, not each time; and since all that it reads has an index, the plan is
by index however small the tables were when it was made. JSON comes as its bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

_OPTIONS = " ".join(
    f"-c {option}"
    for option in (
        "timezone=UTC",
        "lock_timeout=30s",
        "statement_timeout=120s",
        "default_transaction_read_only=on",
        "plan_cache_mode=force_generic_plan",
        "enable_seqscan=off",
        "enable_hashjoin=off",
        "enable_mergejoin=off",
    )
)
_BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)


class QuickReads:
    """At most ``size`` such connections, made when they are wanted. Thread-safe."""

    def __init__(self, url: str, *, size: int, application_name: str) -> None:
        """``url`` is libpq's; no connection is made yet."""
        self._url = url
        self._application_name = application_name
        self._idle: deque[Connection] = deque()
        self._free = threading.BoundedSemaphore(size)

    def run(self, read: Callable[[Connection], T]) -> T:
        """Return what ``read`` returns, which may be called twice: a connection that lay idle may

        have ended with its server. Raises what Postgres raises.
        """
        with self._free:
            connection = self._take_idle()
            if connection is not None:
                try:
                    return self._run(connection, read)
                except _BROKEN:
                    if not connection.closed:
                        raise
                    # The others lay idle as long.
                    self.close()
            return self._run(self._connect(), read)

    def close(self) -> None:
        """Close the connections that lie idle."""
        while (connection := self._take_idle()) is not None:
            connection.close()

    def _run(self, connection: Connection, read: Callable[[Connection], T]) -> T:
        try:
            return read(connection)
        finally:
            if not connection.closed:
                self._idle.append(connection)

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> Connection:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            application_name=self._application_name,
            connect_timeout=5,
            options=_OPTIONS,
        )
        connection.adapters.register_loader("json", _Bytes)
        return connection


class _Bytes(Loader):
    def load(self, data: Buffer) -> bytes:
        return bytes(data)
