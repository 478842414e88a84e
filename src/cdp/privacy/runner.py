"""A thread that carries out what was asked of privacy, one process at a time.

A lock that lives as long as its connection says who works: whoever is killed lets go of it, and the
next goes on with the step that is written down.
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
_LOCK = 7263560
_LOOK_SECONDS = 1.0
_AWAY_SECONDS = 5.0


class PrivacyRunner(WakingThread):
    """Calls ``work`` for whoever holds the lock, and ``look`` in every process."""

    def __init__(
        self, libpq_url: str, work: Callable[[], bool], look: Callable[[], None] = lambda: None
    ) -> None:
        """``work`` returns whether there is more to do at once."""
        super().__init__("privacy")
        self._url = libpq_url
        self._work = work
        self._look = look

    def run(self) -> None:
        """Work whenever the lock can be had, and outlive what fails."""
        while not self.stopping.is_set():
            try:
                with closing(self._connect()) as connection:
                    self._go_on(connection)
            except (psycopg.Error, sa.exc.SQLAlchemyError, OSError) as error:
                _log.warning("privacy_waits", reason=type(error).__name__)
                self.stopping.wait(_AWAY_SECONDS)
            except Exception as error:
                # One job that fails must not end all others for good.
                _log.error("privacy_failed", exc_info=error)
                self.stopping.wait(_AWAY_SECONDS)

    def _connect(self) -> Driver:
        return psycopg.connect(
            self._url, autocommit=True, connect_timeout=5, application_name="cdp-privacy-lock"
        )

    def _go_on(self, connection: Driver) -> None:
        while not self.stopping.is_set():
            self._look()
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
            if row == (True,):
                try:
                    while not self.stopping.is_set() and self._work():
                        connection.execute("SELECT 1")
                finally:
                    with suppress(psycopg.Error):
                        connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
            self.rest(_LOOK_SECONDS)
