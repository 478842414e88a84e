"""DuckDB fed anew when somebody asks for it, by the process that has the file.

Until it holds everything again, whoever reads it is told to come back: half of the people would be
a wrong answer. Killed half way, the next process goes on where this one was.
"""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg
import sqlalchemy as sa

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed, FeedStep
from cdp.analytics.rebuild_store import State, find_newest, note_run
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver

_AWAY = (sa.exc.SQLAlchemyError, psycopg.Error)
_LOOK_SECONDS = 1.0
_NOTE_SECONDS = 0.5
_REFRESHED = ("refreshed", "nothing_to_do")

_log = get_logger(__name__)


class RebuildingFeed:
    """The feed, which starts over when it is asked to. For the one thread that feeds."""

    def __init__(self, database: Database, engine: Engine, feed: Feed, place: str) -> None:
        """``place`` names this file among all that the database feeds."""
        self._database = database
        self._engine = engine
        self._feed = feed
        self._place = place
        self._running: int | None = None
        self._total = 0
        self._is_caught_up = False
        self._looked_at = self._noted_at = float("-inf")

    def step(self, wait_seconds: float) -> FeedStep:
        """Take a step of the feed; begin anew before it when somebody asked for that."""
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            with suppress(*_AWAY):
                self._look()
            self._looked_at = time.monotonic()
        step = self._feed.step(wait_seconds)
        if self._running is not None:
            self._is_caught_up = step.is_caught_up
            with suppress(*_AWAY):
                self._note()
        return step

    def settle(self, refreshed: str | None) -> None:
        """Let readers in again when all is fed, and memberships and tag values follow it.

        ``refreshed`` is what the last refresh came to.
        """
        if self._running is None or not self._is_caught_up or refreshed not in _REFRESHED:
            return
        with suppress(*_AWAY):
            with self._database.transaction() as connection:
                batches = self._engine.applied_seq()
                note_run(driver(connection), self._running, self._place, "done", batches)
            _log.info("analytics_rebuilt", batches=batches)
            self._running = None
            self._engine.open_to_readers()

    def _look(self) -> None:
        with self._database.transaction() as connection:
            asked = find_newest(driver(connection))
        if asked is None or asked.rebuild_no == self._running:
            return
        state = asked.state_at(self._place)
        if state == "done":
            return
        if state == "waiting" and self._engine.applied_seq() == 0:
            # A new file is fed from the beginning as it is.
            self._write(asked.rebuild_no, "done")
            return
        self._running, self._is_caught_up = asked.rebuild_no, False
        if state != "feeding":
            self._write(asked.rebuild_no, "emptying")
            self._engine.close_to_readers()
            _log.info("analytics_rebuild_begins", rebuild=asked.rebuild_no)
            self._feed.start_over()
        self._engine.close_to_readers()
        self._write(asked.rebuild_no, "feeding")

    def _note(self) -> None:
        batches = self._engine.applied_seq()
        share = min(1.0, batches / self._total) if self._total else 0.0
        self._engine.close_to_readers(share)
        if time.monotonic() - self._noted_at >= _NOTE_SECONDS:
            assert self._running is not None
            self._write(self._running, "feeding", batches)

    def _write(self, rebuild_no: int, state: State, batches: int = 0) -> None:
        with self._database.transaction() as connection:
            self._total = note_run(driver(connection), rebuild_no, self._place, state, batches)
        self._noted_at = time.monotonic()
