"""Batches in Postgres as the worker commits them, by plain SQL, for tests of what follows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from cdp.runtime.clock import now
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, Driver, driver


class Batch:
    """One transaction's worth of facts; what it changes is noted as the worker would."""

    def __init__(self, tx: Driver) -> None:
        self.tx = tx
        self.batch_id = open_batch(tx)
        self.changes = BatchChanges()
        self.events = 0
        self.received_until: datetime | None = None

    def add_person(self, value: str, kind: str = "user_id") -> int:
        """Make an identifier that is a profile of its own; return its node number.

        The profile's id holds the value, but for contacts, which must not show anywhere.
        """
        profile_id = f"prf_{kind}" if kind in ("email", "phone") else f"prf_{kind}_{value}"
        row = self.tx.execute(
            """INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen)
               VALUES (%s, %s, %s, 0, now(), now()) RETURNING node_id""",
            (kind, value, profile_id),
        ).fetchone()
        assert row is not None
        node = int(row[0])
        self.tx.execute("UPDATE nodes SET component_id = node_id WHERE node_id = %s", (node,))
        self.tx.execute(
            "INSERT INTO node_profiles VALUES (%s, '-infinity', 'infinity', %s)", (node, node)
        )
        self.tx.execute(
            "INSERT INTO profiles (profile_no, profile_id) VALUES (%s, %s)",
            (node, profile_id),
        )
        self.changes.nodes.add(node)
        self.changes.moved_nodes.add(node)
        self.changes.profiles.add(node)
        return node

    def add_event(
        self,
        node: int | None,
        name: str | None,
        properties: dict[str, Any] | str | None = None,
        *,
        source: int = 0,
        kind: str = "track",
        at: datetime | None = None,
    ) -> str:
        """Add an event; return its message id."""
        moment = now()
        message_id = f"m-{self.batch_id}-{self.events}"
        written = properties if isinstance(properties, str) else json.dumps(properties or {})
        self.tx.execute(
            """INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type,
                                   name, at, received_at, properties, context)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '{}')""",
            (
                self.batch_id, self.events, node, source, message_id, kind, name,
                at or moment, moment, written,
            ),
        )  # fmt: skip
        self.events += 1
        self.received_until = moment
        if node is not None:
            self.tx.execute("UPDATE nodes SET events = events + 1 WHERE node_id = %s", (node,))
            self.changes.nodes.add(node)
            self.changes.profiles.add(node)
        return message_id

    def set_trait(self, node: int, name: str, value: Any, at: datetime | None = None) -> None:
        """Set a trait's register on a node; ``None`` removes the trait."""
        self.tx.execute(
            """INSERT INTO traits VALUES (%s, %s, %s, %s, 'm', 0)
               ON CONFLICT (node_id, name, part, source_number, since)
               DO UPDATE SET value = excluded.value""",
            (node, name, json.dumps(value), at or now()),
        )
        self.changes.trait_nodes.add(node)

    def merge(self, nodes: Sequence[int], into: int) -> None:
        """Let ``nodes``, profiles of their own, belong to the profile ``into``."""
        for node in nodes:
            self.tx.execute(
                "UPDATE node_profiles SET profile_no = %s WHERE node_id = %s", (into, node)
            )
            self.tx.execute("DELETE FROM profiles WHERE profile_no = %s", (node,))
            self.changes.merges.append({"from": f"prf_{node}", "into": f"prf_{into}"})
        self.changes.moved_nodes.update(nodes)
        self.changes.profiles.update([*nodes, into])

    def erase(self, node: int) -> None:
        """Remove a person for privacy."""
        for table, column in (
            ("events", "node_id"), ("traits", "node_id"), ("node_profiles", "node_id"),
            ("nodes", "node_id"), ("profiles", "profile_no"),
        ):  # fmt: skip
            self.tx.execute(f"DELETE FROM {table} WHERE {column} = %s", (node,))
        self.changes.erased_nodes.add(node)
        self.changes.profiles.add(node)


@contextmanager
def committing(
    database: Database, positions: dict[str, dict[int, int]] | None = None
) -> Iterator[Batch]:
    """A batch that is committed when the block ends."""
    with database.transaction() as connection:
        batch = Batch(driver(connection))
        yield batch
        for log, by_partition in (positions or {}).items():
            for partition, offset in by_partition.items():
                batch.tx.execute(
                    """INSERT INTO positions (log, partition, next_offset) VALUES (%s, %s, %s)
                       ON CONFLICT (log, partition) DO UPDATE
                          SET next_offset = excluded.next_offset""",
                    (log, partition, offset),
                )
        close_batch(
            batch.tx,
            batch.batch_id,
            batch.changes,
            events=batch.events,
            received_until=batch.received_until,
            positions=positions,
        )
