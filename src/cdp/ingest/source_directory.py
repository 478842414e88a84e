"""Sources in memory: ingest asks nobody about a key, and goes on while Postgres is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cdp.errors import Unavailable
from cdp.model import Source
from cdp.runtime.clock import now as clock_now
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver
from cdp.storage.listening import DATABASE_ERRORS, ChannelFollower

SOURCES_CHANNEL = "cdp_sources"
"""Notified in the transaction that changes a source or a key."""

_NOTE_USE_EVERY_SECONDS = 10.0

_log = get_logger(__name__)


class SourceDirectory:
    """Knows which key belongs to which source. Thread-safe.

    ``start`` keeps it fresh from a thread of its own: changes arrive within milliseconds, and which
    keys were used is written down now and then. Without ``start`` it looks when it is asked for
    something it does not know.
    """

    def __init__(self, database: Database, *, now: Callable[[], datetime] = clock_now) -> None:
        self._database = database
        self._now = now
        self._by_key: dict[str, Source] = {}
        self._by_id: dict[str, Source] = {}
        self._disabled: frozenset[str] = frozenset()
        self._ends: dict[str, datetime] = {}
        """Keys that have an end."""
        self._used: set[str] = set()
        self._use_noted_at = time.monotonic()
        self._loaded_at: float | None = None
        self._lock = threading.Lock()
        self._follower = ChannelFollower(
            database, SOURCES_CHANNEL, "sources", self.refresh, self._note_use_when_due
        )

    def start(self) -> None:
        """Load the sources and follow their changes; tolerates that Postgres is away."""
        self._follower.start()

    def close(self) -> None:
        """Stop following."""
        self._follower.close()
        try:
            self.note_use()
        except DATABASE_ERRORS as error:
            _log.warning("key_use_not_noted", reason=type(error).__name__)

    def by_key(self, write_key: str) -> Source | None:
        """Return the source of ``write_key``; ``None`` for one that is unknown, disabled or ended.

        Never blocks once loaded. Raises ``Unavailable`` when the sources could not be read yet:
        to call a key unknown then would make SDKs throw their events away.
        """
        found = self._by_key.get(write_key)
        if found is None:
            self._expect_loaded()
            return None
        if self._ends and (ends_at := self._ends.get(write_key)) and ends_at <= self._now():
            return None
        self._used.add(write_key)
        return found

    def recall(self, source_id: str) -> tuple[Source | None, bool]:
        """Return a source from memory, and whether it is disabled. Never blocks once loaded.

        Raises ``Unavailable`` when the sources could not be read yet.
        """
        found = self._by_id.get(source_id)
        if found is None:
            self._expect_loaded()
        return found, source_id in self._disabled

    def _expect_loaded(self) -> None:
        if self._loaded_at is None:
            raise Unavailable(
                "sources_unavailable", "the write keys cannot be read yet", retry_after=5
            )

    def by_id(self, source_id: str) -> Source | None:
        """Return a source; looks into Postgres for one that is not known. May block.

        Always looks: the worker would set the events of a source aside that was made just now.
        """
        found = self._by_id.get(source_id)
        if found is None:
            self.refresh()
            found = self._by_id.get(source_id)
        return found

    def refresh(self) -> None:
        """Read all sources now, so that a change made here holds at once. Blocks."""
        with self._lock:
            with self._database.transaction() as connection:
                sources = driver(connection).execute(_SELECT_SOURCES).fetchall()
                keys = driver(connection).execute(_SELECT_KEYS).fetchall()
            by_id = {row[0]: _read_source(row) for row in sources}
            disabled = frozenset(row[0] for row in sources if row[5] is not None)
            # Replaced, never changed: readers hold no lock.
            self._by_id = by_id
            self._disabled = disabled
            self._by_key = {key: by_id[i] for key, i, _ in keys if i in by_id and i not in disabled}
            self._ends = {key: ends_at for key, _, ends_at in keys if ends_at is not None}
            self._loaded_at = time.monotonic()

    def note_use(self) -> None:
        """Write down which keys were used since the last time. Blocks."""
        used, self._used = self._used, set()
        self._use_noted_at = time.monotonic()
        if used:
            try:
                with self._database.transaction() as connection:
                    driver(connection).execute(_NOTE_USE, (self._now(), sorted(used)))
            except DATABASE_ERRORS:
                self._used |= used
                raise

    def _note_use_when_due(self) -> None:
        if time.monotonic() - self._use_noted_at > _NOTE_USE_EVERY_SECONDS:
            self.note_use()


_SELECT_SOURCES = "SELECT source_id, number, name, type, settings, disabled_at FROM sources"
_SELECT_KEYS = "SELECT write_key, source_id, ends_at FROM write_keys WHERE disabled_at IS NULL"
# Several processes see the same key used: the latest says when.
_NOTE_USE = """
UPDATE write_keys SET last_used_at = greatest(last_used_at, %b::timestamptz)
 WHERE key_id = ANY(ARRAY(SELECT key_id FROM write_keys WHERE write_key = ANY(%b::text[])
                           ORDER BY key_id FOR UPDATE))
"""


def _read_source(row: tuple[Any, ...]) -> Source:
    source_id, number, name, type_, settings, _ = row
    return Source(source_id, number, name, type_, settings)
