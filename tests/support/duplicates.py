"""People who may be one, in Chinese and Latin letters, and a search for them done at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdp.identity.identifiers import normalise
from cdp.identity.suggestions.runner import SuggestionRunner
from cdp.storage.database import Database, driver
from tests.support.identity_rows import apply, make_store
from tests.support.identity_world import RULES, START, saw


def read_contact(kind: str, value: object) -> str | None:
    """Normalise as the workspace does."""
    return normalise(kind, value, RULES)


def make_runner(database: Database, folder: Path, **more: Any) -> SuggestionRunner:
    """A runner that works only when it is told to: ``run_next``."""
    return SuggestionRunner(
        database, read_contact, folder / "search", memory="256MB", threads=2, **more
    )


class Town:
    """Adds people to a database as the worker does, with what they say of themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = make_store()
        self._day = 0.0

    def add(self, names: str, **traits: Any) -> None:
        """Let one event with the identifiers of ``names`` say ``traits`` of the strongest."""
        self._day += 1
        homes, _ = apply(self._database, self._store, saw(names, self._day))
        self.say(homes[0], **traits)

    def say(self, node: int | None, **traits: Any) -> None:
        """Write what is said of a node, in place of what was said before."""
        with self._database.transaction() as connection:
            for name, value in traits.items():
                driver(connection).execute(
                    """INSERT INTO traits VALUES (%s, %s, %s, %s, 'm', 1)
                           ON CONFLICT (node_id, name, part, source_number, since)
                           DO UPDATE SET value = excluded.value""",
                    (node, name, json.dumps(value), START),
                )

    def meet(self, names: str) -> None:
        """Let one event tie identifiers together."""
        self._day += 1
        apply(self._database, self._store, saw(names, self._day))
