"""People for tests of segments and tags: the same rows in Postgres and in DuckDB, batch by batch.

Stands where worker and feed stand, so that a test says exactly what a batch holds and when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cdp.analytics.engine import Engine
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, driver

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGINNING, END = "-infinity", "infinity"


class People:
    """Writes facts; ``publish`` makes them a batch that is in both databases."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self.database = database
        self.engine = engine
        self.seq = 0
        self._changes = BatchChanges()
        self._messages = 0

    def add(self, value: str, *, kind: str = "user_id", at: datetime = NOON) -> int:
        """Make a person with one identifier; return the profile's number."""
        with self.database.transaction() as connection:
            row = (
                driver(connection)
                .execute(
                    """INSERT INTO nodes (type, value, profile_id, component_id, first_seen,
                                          last_seen)
                       VALUES (%s, %s, %s, 0, %s, %s) RETURNING node_id, profile_id""",
                    (kind, value, f"prf_{kind}_{value}", at, at),
                )
                .fetchone()
            )
            assert row is not None
            number, profile_id = int(row[0]), str(row[1])
            self._place_in_postgres(connection, number, number)
            driver(connection).execute(
                "INSERT INTO profiles (profile_no, profile_id) VALUES (%s, %s)",
                (number, profile_id),
            )
        self._duck(
            "INSERT INTO core.nodes VALUES (?, ?, ?, '', ?, ?, ?, 0, [])",
            [number, kind, value, profile_id, at, at],
        )
        self._duck(
            "INSERT INTO core.node_profiles VALUES (?, ?, ?, ?)", [number, BEGINNING, END, number]
        )
        self._duck("INSERT INTO core.profiles VALUES (?, ?, NULL, 1)", [number, profile_id])
        self._changes.profiles.add(number)
        return number

    def identify(self, number: int, kind: str, value: str, *, at: datetime = NOON) -> int:
        """Give a person another identifier; return its node."""
        node = self.add(value, kind=kind, at=at)
        self._move(node, number)
        self._forget_profile(node)
        return node

    def event(
        self,
        node: int,
        name: str,
        at: datetime = NOON,
        properties: dict[str, Any] | None = None,
        *,
        received_at: datetime | None = None,
    ) -> None:
        """Let something happen on a node."""
        self._messages += 1
        self._duck(
            """INSERT INTO core.events VALUES (?, ?, ?, 'src', ?, 'track', ?, ?, ?, ?, '{}',
                                               NULL)""",
            [
                self.seq + 1, self._messages, node, f"m{self._messages:05}", name, at,
                received_at or at, json.dumps(properties or {}),
            ],
        )  # fmt: skip
        self._changes.profiles.add(self.owner(node))

    def order(
        self,
        node: int,
        at: datetime = NOON,
        total: int = 1000,
        *,
        refunded: int = 0,
        currency: str = "CNY",
        status: str = "completed",
        number: int | None = None,
        channel: str | None = None,
        store: str | None = None,
        lines: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """Let a node order, for ``total`` minor units; return the order's number.

        ``number`` names an order that is there: it is replaced by this version.
        """
        self._messages += 1
        number = number or self._messages
        for table in ("orders", "order_lines"):
            self._duck(f"DELETE FROM core.{table} WHERE order_no = ?", [number])
        self._duck(
            "INSERT INTO core.orders VALUES (?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}')",
            [
                number, f"o{number}", node, status, currency, total, refunded, total - refunded,
                store, channel, at, at,
            ],
        )  # fmt: skip
        for position, line in enumerate(lines):
            self._duck(
                "INSERT INTO core.order_lines VALUES (?, ?, ?, NULL, ?, 1, NULL, NULL)",
                [number, position, line.get("sku"), line.get("category")],
            )
        self._changes.orders.add(number)
        self._changes.profiles.add(self.owner(node))
        return number

    def trait(self, node: int, name: str, value: Any, at: datetime = NOON) -> None:
        """Say something of a node."""
        self._duck("DELETE FROM core.node_traits WHERE node_id = ? AND name = ?", [node, name])
        self._duck(
            """INSERT INTO core.node_traits (node_id, name, value, "at", message_id, source_number)
               VALUES (?, ?, ?, ?, 'm', 1)""",
            [node, name, json.dumps(value), at],
        )
        self._changes.profiles.add(self.owner(node))

    def consent(self, node: int, purpose: str, granted: bool, at: datetime = NOON) -> None:
        """Let a node state its will."""
        self._duck(
            "INSERT INTO core.node_consents VALUES (?, ?, ?, ?, 'm', 1)",
            [node, purpose, granted, at],
        )
        self._changes.profiles.add(self.owner(node))

    def merge(self, absorbed: int, survivor: int) -> None:
        """Let one profile absorb another."""
        nodes = self._nodes_of(absorbed)
        for node in nodes:
            self._move(node, survivor)
        self._forget_profile(absorbed)
        self._changes.profiles |= {absorbed, survivor}
        self._changes.merges.append(
            {"from": self.profile_id(absorbed), "into": self.profile_id(survivor)}
        )

    def erase(self, number: int) -> None:
        """Erase a person for privacy."""
        nodes = self._nodes_of(number)
        with self.database.transaction() as connection:
            tx = driver(connection)
            tx.execute("DELETE FROM node_profiles WHERE node_id = ANY(%s)", (nodes,))
            tx.execute("DELETE FROM nodes WHERE node_id = ANY(%s)", (nodes,))
        for table in ("nodes", "node_profiles", "events", "node_traits", "node_consents"):
            self._duck(f"DELETE FROM core.{table} WHERE list_contains(?, node_id)", [nodes])
        self._forget_profile(number)
        self._changes.profiles.add(number)
        self._changes.erased_nodes |= set(nodes)

    def publish(self, as_of: datetime = NOON) -> int:
        """Make everything since the last call one batch; return its place in commit order."""
        with self.database.transaction() as connection:
            tx = driver(connection)
            self.seq = close_batch(tx, open_batch(tx), self._changes)
        positions = json.dumps({"postgres": {"0": self.seq}})
        self._duck(
            "UPDATE core.applied SET seq = ?, positions = ?, as_of = ?",
            [self.seq, positions, as_of],
        )
        self.engine.recall()
        self._changes = BatchChanges()
        return self.seq

    def owner(self, node: int) -> int:
        """Return the profile that a node belongs to."""
        found = self.engine.read(
            "SELECT profile_no FROM core.node_profiles WHERE node_id = ?", [node]
        )
        return int(found["profile_no"][0].as_py())

    def profile_id(self, number: int) -> str:
        """Return the profile id that a node names."""
        with self.database.transaction() as connection:
            row = (
                driver(connection)
                .execute("SELECT profile_id FROM nodes WHERE node_id = %s", (number,))
                .fetchone()
            )
        assert row is not None
        return str(row[0])

    def _nodes_of(self, number: int) -> list[int]:
        found = self.engine.read(
            "SELECT node_id FROM core.node_profiles WHERE profile_no = ?", [number]
        )
        return [int(node) for node in found["node_id"].to_pylist()]

    def _move(self, node: int, number: int) -> None:
        with self.database.transaction() as connection:
            self._place_in_postgres(connection, node, number)
        self._duck("UPDATE core.node_profiles SET profile_no = ? WHERE node_id = ?", [number, node])

    def _forget_profile(self, number: int) -> None:
        with self.database.transaction() as connection:
            driver(connection).execute("DELETE FROM profiles WHERE profile_no = %s", (number,))
        self._duck("DELETE FROM core.profiles WHERE profile_no = ?", [number])

    @staticmethod
    def _place_in_postgres(connection: Any, node: int, number: int) -> None:
        driver(connection).execute(
            """INSERT INTO node_profiles (node_id, since, until, profile_no)
               VALUES (%s, '-infinity', 'infinity', %s)
                   ON CONFLICT (node_id, since) DO UPDATE SET profile_no = excluded.profile_no""",
            (node, number),
        )

    def _duck(self, sql: str, params: list[Any]) -> None:
        with self.engine.write() as cursor:
            cursor.execute(sql, params)
