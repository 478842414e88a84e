"""Tokens in memory: one look at Postgres per token and second, so a revoked one fails promptly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from cdp.access.personal_names import refresh_choices
from cdp.access.scopes import Caller
from cdp.access.tokens_store import PREFIX, find_token, hash_token, mark_used
from cdp.runtime.clock import now as clock_now
from cdp.storage.database import Database, driver

_FRESH_SECONDS = 1.0
_USE_IS_NOTED_EVERY = timedelta(minutes=1)
_MOST_ENTRIES = 10_000
_LONGEST_TOKEN = 200


class _Entry(NamedTuple):
    caller: Caller | None
    good_until: float


class TokenDirectory:
    """Knows which token is whose. Thread-safe."""

    def __init__(
        self, database: Database, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def recall(self, token: str) -> tuple[bool, Caller | None]:
        """Return whether the answer is known without asking Postgres, and the answer."""
        if not token.startswith(PREFIX) or len(token) > _LONGEST_TOKEN:
            return True, None
        entry = self._entries.get(hash_token(token))
        if entry is None or entry.good_until <= self._monotonic():
            return False, None
        return True, entry.caller

    def look_up(self, token: str) -> Caller | None:
        """Ask Postgres whose token this is; ``None`` for an unknown or revoked one. Blocks."""
        asked_at = self._monotonic()
        with self._database.transaction() as connection:
            found = find_token(driver(connection), token)
            # Whoever is let in sees what they may see by now.
            refresh_choices(driver(connection))
            used_at = clock_now()
            if found is not None and _is_stale(found.last_used_at, used_at):
                mark_used(driver(connection), found.token_id, used_at)
        caller = None if found is None else Caller(found.token_id, frozenset(found.scopes))
        with self._lock:
            if len(self._entries) >= _MOST_ENTRIES:
                self._entries.clear()
            # Counted from before the question: the answer may be as old as that.
            self._entries[hash_token(token)] = _Entry(caller, asked_at + _FRESH_SECONDS)
        return caller

    def forget(self) -> None:
        """Drop everything remembered, so that a change made here holds at once."""
        with self._lock:
            self._entries.clear()


def _is_stale(last_used_at: datetime | None, now: datetime) -> bool:
    return last_used_at is None or now - last_used_at >= _USE_IS_NOTED_EVERY
