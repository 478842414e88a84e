"""What a worker remembers between batches: nodes and links that it has seen in the database.

Only what is committed may be remembered, and the store cannot see the commit: what a transaction
learnt waits until Postgres says what became of that transaction.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from cdp.identity.facts import LinkFact
from cdp.identity.nodes_store import KnownNode
from cdp.identity.sightings import LinkKey
from cdp.model import Identifier
from cdp.storage.database import Driver

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory(Generic[Key, Value]):
    """A dictionary of bounded size that forgets its oldest half when it is full."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: dict[Key, Value] = {}
        self.get = self._values.get

    def add(self, values: dict[Key, Value]) -> None:
        self._values.update(values)
        if len(self._values) > self._size:
            for key in list(self._values)[: len(self._values) // 2]:
                del self._values[key]

    def clear(self) -> None:
        self._values.clear()


class Known:
    """The nodes and links that the database is known to hold."""

    def __init__(self, size: int = 500_000) -> None:
        self.nodes: Memory[Identifier, KnownNode] = Memory(size)
        self.links: Memory[LinkKey, LinkFact] = Memory(size)
        self._pending: dict[str, tuple[dict[Identifier, KnownNode], dict[LinkKey, LinkFact]]] = {}

    def settle(self, conn: Driver) -> str:
        """Take over what committed transactions learnt; return the id of this transaction."""
        waiting = list(self._pending)
        row = conn.execute(
            """SELECT pg_current_xact_id()::text,
                      ARRAY(SELECT coalesce(pg_xact_status(x::xid8), 'aborted')
                              FROM unnest(%s::text[]) AS x)""",
            (waiting,),
        ).fetchone()
        assert row is not None
        for transaction, status in zip(waiting, row[1], strict=True):
            if transaction == row[0] or status == "in progress":
                continue
            nodes, links = self._pending.pop(transaction)
            if status == "committed":
                self.nodes.add(nodes)
                self.links.add(links)
        return str(row[0])

    def learn(
        self,
        transaction: str,
        nodes: dict[Identifier, KnownNode],
        links: dict[LinkKey, LinkFact],
    ) -> None:
        """Keep what ``transaction`` has read and written until it is committed."""
        pending_nodes, pending_links = self._pending.setdefault(transaction, ({}, {}))
        pending_nodes.update(nodes)
        pending_links.update(links)

    def forget(self) -> None:
        """Forget everything: the database has lost something that was known."""
        self.nodes.clear()
        self.links.clear()
        self._pending.clear()
