"""Lets the events that segments and tags ask something of have tables with typed columns."""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg
import sqlalchemy as sa

from cdp.analytics.engine import Engine
from cdp.analytics.typed_engine import TypedTables
from cdp.segments.definitions import find_asked
from cdp.segments.definitions_store import read_definitions
from cdp.storage.database import Database, driver

_AWAY = (sa.exc.SQLAlchemyError, psycopg.Error)
_LOOK_SECONDS = 5.0


class TypedKeeper:
    """Looks now and then at what is asked for. For the one thread that feeds."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._tables = TypedTables(engine)
        self._wanted: dict[str, set[str]] = {}
        self._has_more = False
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Go on with what is to be made, for half a second at most, or look for more."""
        is_due = time.monotonic() - self._looked_at >= _LOOK_SECONDS
        if not self._has_more and not is_due:
            return
        if is_due:
            with suppress(*_AWAY):
                self._wanted = self._read_wanted()
            self._looked_at = time.monotonic()
        self._has_more = self._tables.keep(self._wanted)

    def _read_wanted(self) -> dict[str, set[str]]:
        with self._database.transaction() as connection:
            definitions = read_definitions(driver(connection))
        wanted: dict[str, set[str]] = {}
        for definition in definitions:
            for event, name in find_asked(definition.document):
                wanted.setdefault(event, set()).add(name)
        return wanted
