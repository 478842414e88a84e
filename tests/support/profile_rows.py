"""People made by plain SQL, as the worker leaves them, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cdp.runtime.clock import now
from cdp.storage.database import Database, driver

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def hour(hours: float) -> datetime:
    """Return the moment ``hours`` after the start of every test's history."""
    return START + timedelta(hours=hours)


class Writer:
    """Writes rows; a node is its own profile until it is tied."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ordinal = 0

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Run one statement in a transaction of its own; return its rows."""
        with self._database.transaction() as connection:
            cursor = driver(connection).execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def add_source(self, name: str, kind: str = "web") -> int:
        """Make a source; return its number."""
        rows = self.execute(
            """INSERT INTO sources (source_id, name, type)
               VALUES (%(id)s, %(name)s, %(type)s) RETURNING number""",
            {"id": f"src_{name}", "name": name, "type": kind},
        )
        return int(rows[0][0])

    def add_node(
        self,
        kind: str,
        value: str,
        *,
        first: datetime = START,
        last: datetime = START,
        events: int = 0,
        sources: tuple[int, ...] = (),
        variant: str = "",
    ) -> int:
        """Make an identifier with a profile of its own, ``prf_<type>_<value>``."""
        profile_id = f"prf_{kind}_{value}{variant}"
        rows = self.execute(
            """INSERT INTO nodes (type, value, variant, profile_id, component_id, first_seen,
                                  last_seen, events, source_numbers)
               VALUES (%(type)s, %(value)s, %(variant)s, %(id)s, 0, %(first)s, %(last)s,
                       %(events)s, %(sources)s)
               RETURNING node_id""",
            {
                "type": kind,
                "value": value,
                "variant": variant,
                "id": profile_id,
                "first": first,
                "last": last,
                "events": events,
                "sources": list(sources),
            },
        )
        node = int(rows[0][0])
        self.execute(
            """INSERT INTO node_profiles (node_id, since, until, profile_no)
               VALUES (%(node)s, '-infinity', 'infinity', %(node)s)""",
            {"node": node},
        )
        self.execute(
            "INSERT INTO profiles (profile_no, profile_id) VALUES (%(node)s, %(id)s)",
            {"node": node, "id": profile_id},
        )
        return node

    def tie(self, into: int, *nodes: int, joined_at: datetime | None = None) -> None:
        """Let ``nodes`` belong to the profile that ``into`` names."""
        parameters = {"into": into, "nodes": list(nodes), "at": joined_at}
        self.execute(
            "UPDATE node_profiles SET profile_no = %(into)s WHERE node_id = ANY(%(nodes)s)",
            parameters,
        )
        self.execute("DELETE FROM profiles WHERE profile_no = ANY(%(nodes)s)", parameters)
        self.execute(
            """UPDATE profiles SET version = version + 1, joined_at = %(at)s
                WHERE profile_no = %(into)s""",
            parameters,
        )

    def say(
        self, node: int, name: str, value: Any, at: datetime, message: str, source: int = 0
    ) -> None:
        """Write one trait register."""
        self.execute(
            """INSERT INTO traits VALUES (%(node)s, %(name)s, %(value)s, %(at)s, %(message)s,
                                          %(source)s)""",
            {
                "node": node,
                "name": name,
                "value": json.dumps(value),
                "at": at,
                "message": message,
                "source": source,
            },
        )

    def consent(
        self, node: int, purpose: str, granted: bool, at: datetime, source: int = 0
    ) -> None:
        """Write one consent register."""
        self.execute(
            """INSERT INTO consents VALUES (%(node)s, %(purpose)s, %(granted)s, %(at)s, 'm',
                                            %(source)s)""",
            {"node": node, "purpose": purpose, "granted": granted, "at": at, "source": source},
        )

    def add_event(
        self,
        node: int,
        at: datetime,
        message: str,
        *,
        kind: str = "track",
        name: str | None = None,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        source: int = 0,
        group: str | None = None,
    ) -> None:
        """Append an event to a node's timeline; counters stay as they are."""
        self._ordinal += 1
        self.execute(
            """INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type,
                                   name, at, received_at, properties, context, group_id)
               VALUES (1, %(ordinal)s, %(node)s, %(source)s, %(message)s, %(kind)s, %(name)s,
                       %(at)s, %(received)s, %(properties)s, %(context)s, %(group)s)""",
            {
                "ordinal": self._ordinal,
                "node": node,
                "source": source,
                "message": message,
                "kind": kind,
                "name": name,
                "at": at,
                "received": now(),
                "properties": json.dumps(properties or {}),
                "context": json.dumps(context or {}),
                "group": group,
            },
        )
