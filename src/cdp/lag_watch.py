"""Looks every second how far the workers are behind the log, and tells ingest's gate."""

from __future__ import annotations

import threading
import time

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from cdp.ingest.lag_gate import LagGate
from cdp.log.port import Log, LogUnavailable
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver
from cdp.storage.positions import read_positions

_EVERY_SECONDS = 1.0
# What was seen holds so long when nothing newer can be: then the log itself has the say.
_BELIEVED_SECONDS = 30.0

_log = get_logger(__name__)


class LagWatch:
    """Keeps a ``LagGate`` up to date from a thread of its own."""

    def __init__(self, database: Database, log: Log, gate: LagGate) -> None:
        self._database = database
        self._log = log
        self._gate = gate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag-watch", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        seen_at = time.monotonic()
        while not self._stop.wait(_EVERY_SECONDS):
            was_closed = bool(self._gate.retry_after)
            try:
                self._look()
            except (LogUnavailable, psycopg.Error, SQLAlchemyError):
                if time.monotonic() - seen_at > _BELIEVED_SECONDS:
                    self._gate.open()
            else:
                seen_at = time.monotonic()
            is_closed = bool(self._gate.retry_after)
            if is_closed and not was_closed:
                _log.warning("ingest_closed", reason="workers are behind", records=self._gate.lag)
            elif was_closed and not is_closed:
                _log.info("ingest_open_again", records=self._gate.lag)

    def _look(self) -> None:
        with self._database.transaction() as connection:
            positions = read_positions(driver(connection), self._log.name)
        self._gate.look(self._log.end_positions(), positions, time.monotonic())
