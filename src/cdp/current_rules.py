"""The identity rules as they stand, for those who look people up: read again every few seconds."""

from __future__ import annotations

import threading
import time

from cdp.errors import NotFound
from cdp.identity.identifiers import find_block, normalise
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules
from cdp.storage.database import Database, driver

_FRESH_SECONDS = 2.0


class CurrentRules:
    """Holds the newest rules. Thread-safe."""

    def __init__(self, database: Database, country: str) -> None:
        self._database = database
        self._country = country
        self._rules: Rules | None = None
        self._good_until = -1.0
        self._lock = threading.Lock()

    def get(self) -> Rules:
        """Return the rules, at most two seconds old. May block on Postgres."""
        with self._lock:
            if self._rules is None or time.monotonic() >= self._good_until:
                with self._database.transaction() as connection:
                    newest = read_rules(driver(connection), self._country)
                # The same object as long as nothing changed: readers keep caches by it.
                if newest != self._rules:
                    self._rules = newest
                self._good_until = time.monotonic() + _FRESH_SECONDS
            assert self._rules is not None
            return self._rules

    def forget(self) -> None:
        """Read the rules again when they are next asked for: they were changed here."""
        with self._lock:
            self._good_until = -1.0

    def normalise(self, kind: str, value: object) -> str | None:
        """Return the one spelling of an identifier's value; ``None`` when it names nobody."""
        return normalise(kind, value, self.get())

    def read_name(self, kind: str, value: object) -> str | None:
        """Return the spelling of a value by which a person is asked for, as ``normalise`` does.

        Raises ``NotFound`` that says by which rule a blocked value names nobody.
        """
        text = self.normalise(kind, value)
        block = find_block(kind, value, self.get()) if text is None else None
        if block is not None:
            details = {
                "withheld": "blocked",
                "rule": block.kind,
                "identifier": str(block.identifier),
            }
            raise NotFound("profile_not_found", block.message, details=details)
        return text
