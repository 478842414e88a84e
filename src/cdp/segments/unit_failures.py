"""Units whose evaluation failed: left out for a while, so that they stop nobody else. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cdp.segments.definitions import Definition, UnitName

_RETRY_AFTER = timedelta(minutes=1)


class UnitFailed(Exception):
    """A unit's rule could not be evaluated; the others go on without it."""

    def __init__(self, definition: Definition, reason: str) -> None:
        super().__init__(f"{definition.kind} {definition.key}: {reason}")
        self.definition = definition
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Failure:
    version: int
    retry_at: datetime


class UnitFailures:
    """Which units failed, and when each is tried again. Used by one thread."""

    def __init__(self) -> None:
        self._failed: dict[UnitName, _Failure] = {}

    def note(self, definition: Definition, now: datetime) -> None:
        """A unit failed at ``now``."""
        self._failed[definition.name] = _Failure(definition.version, now + _RETRY_AFTER)

    def clear(self, name: UnitName) -> None:
        """A unit was evaluated."""
        self._failed.pop(name, None)

    def skip(self, definitions: Iterable[Definition], now: datetime) -> frozenset[UnitName]:
        """Return the failed units whose time to be tried again has not come. A new definition is

        tried at once.
        """
        versions = {each.name: each.version for each in definitions}
        self._failed = {
            name: failure
            for name, failure in self._failed.items()
            if versions.get(name) == failure.version and now < failure.retry_at
        }
        return self.names()

    def names(self) -> frozenset[UnitName]:
        """Return the units that failed and are to be tried again."""
        return frozenset(self._failed)
