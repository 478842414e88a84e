"""A thread that works in one process at a time, however many run it.

A lock that lives as long as its connection says who works: whoever is killed lets go of it, and the
next goes on with what is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

import psycopg
import sqlalchemy as sa

from cdp.runtime.logs import get_logger
from cdp.runtime.waking_thread import WakingThread
from cdp.storage.database import Driver

_log = get_logger(__name__)
_LOOK_SECONDS = 1.0
_AWAY_SECONDS = 5.0


class SoleWorker(WakingThread):
    """Calls ``work`` for whoever holds the lock, ``look`` in every process; outlives failures."""

    def __init__(
        self,
        name: str,
        libpq_url: str,
        lock: int,
        work: Callable[[], bool],
        look: Callable[[], None] = lambda: None,
        *,
        keeps: bool = False,
    ) -> None:
        """``lock`` is the number of the advisory lock; ``work`` says whether there is more to do.

        Who ``keeps`` the lock while there is nothing to do may leave work to threads of its own.
        """
        super().__init__(name)
        self._name = name
        self._url = libpq_url
        self._lock = lock
        self._work = work
        self._look = look
        self._keeps = keeps

    def run(self) -> None:
        """Work whenever the lock can be had."""
        while not self.stopping.is_set():
            try:
                with closing(self._connect()) as connection:
                    self._go_on(connection)
            except (psycopg.Error, sa.exc.SQLAlchemyError, OSError) as error:
                _log.warning(f"{self._name}_waits", reason=type(error).__name__)
                self.stopping.wait(_AWAY_SECONDS)
            except Exception as error:
                # One piece of work that fails must not end all others for good.
                _log.error(f"{self._name}_failed", exc_info=error)
                self.stopping.wait(_AWAY_SECONDS)

    def _connect(self) -> Driver:
        return psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            application_name=f"cdp-{self._name}-lock",
        )

    def _go_on(self, connection: Driver) -> None:
        while not self.stopping.is_set():
            self._look()
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._lock,)).fetchone()
            if row == (True,):
                try:
                    while not self.stopping.is_set():
                        if not self._work():
                            if not self._keeps:
                                break
                            self.rest(_LOOK_SECONDS)
                        connection.execute("SELECT 1")
                finally:
                    with suppress(psycopg.Error):
                        connection.execute("SELECT pg_advisory_unlock(%s)", (self._lock,))
            self.rest(_LOOK_SECONDS)
