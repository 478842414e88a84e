"""Identifier nodes in Postgres: find them, make them, count what hangs on them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import psycopg

from cdp.identity.profile_id import make_profile_id
from cdp.identity.sightings import NodeSighting
from cdp.model import Identifier
from cdp.storage.copy_rows import copy_rows, pack_text, pack_time
from cdp.storage.database import Driver
from cdp.storage.numbers import take_numbers

SHARED = "shared"
"""The variant of a node that names a shared device's own profile."""


_WORTH_COPYING = 100
"""Rows. For fewer a savepoint costs more than COPY saves."""
_COPIED = (
    "node_id, component_id, events, type, value, profile_id, first_seen, last_seen, source_numbers"
)
_INTEGER = 23
_pack_numbers = struct.Struct("!hiqiqiq").pack
_pack_source = struct.Struct("!iiiIiiii").pack


class StaleNodes(psycopg.errors.SerializationFailure):
    """A remembered node is gone (erased by another process). Forgotten now: try once more."""


class KnownNode(NamedTuple):
    node_id: int
    first_seen: datetime
    """As far as known; the database may know of an earlier sighting."""


class FreshNode(NamedTuple):
    """A node that this transaction makes."""

    node_id: int
    identifier: Identifier
    profile_id: str
    component_id: int
    sighting: NodeSighting


class NodeUpdate(NamedTuple):
    """Counters to add and the component to move to; ``None`` leaves what is there."""

    node_id: int
    sighting: NodeSighting | None
    component_id: int | None


def find_nodes(conn: Driver, wanted: Sequence[Identifier]) -> dict[Identifier, KnownNode]:
    """Return those of ``wanted`` that exist."""
    rows = conn.execute(
        """SELECT n.type, n.value, n.node_id, n.first_seen
             FROM unnest(%b::text[], %b::text[]) AS w (type, value)
             JOIN nodes n ON n.type = w.type AND n.value = w.value AND n.variant = ''""",
        ([name for name, _ in wanted], [value for _, value in wanted]),
    ).fetchall()
    return {Identifier(row[0], row[1]): KnownNode(row[2], row[3]) for row in rows}


def take_node_ids(conn: Driver, count: int) -> list[int]:
    """Return ``count`` numbers that no other node has."""
    return take_numbers(conn, "nodes", "node_id", count)


def insert_nodes(conn: Driver, fresh: Iterable[FreshNode]) -> set[int]:
    """Write new nodes; return the ids of those that nobody else made meanwhile.

    In the order of the identifiers, so that two workers that make the same ones wait for each
    other in one direction only.
    """
    rows = sorted(fresh, key=lambda node: node.identifier)
    if not rows:
        return set()
    if len(rows) >= _WORTH_COPYING:
        # COPY looks for no conflicts before it meets one, which saves half of the time.
        try:
            with conn.transaction():
                copy_rows(conn, "nodes", _COPIED, (_pack_row(row) for row in rows))
            return {row.node_id for row in rows}
        except psycopg.errors.UniqueViolation:
            pass
    return _insert_unless_made(conn, rows)


def _insert_unless_made(conn: Driver, rows: Sequence[FreshNode]) -> set[int]:
    made = conn.execute(
        """INSERT INTO nodes (node_id, type, value, profile_id, component_id,
                              first_seen, last_seen, events, source_numbers)
           SELECT f.node_id, f.type, f.value, f.profile_id, f.component_id,
                  f.first_seen, f.last_seen, f.events, f.sources::int[]
             FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::bigint[],
                         %b::timestamptz[], %b::timestamptz[], %b::bigint[], %b::text[])
                  AS f (node_id, type, value, profile_id, component_id,
                        first_seen, last_seen, events, sources)
           -- Of any index: two who make the same node at once may meet in either first.
           ON CONFLICT DO NOTHING
           RETURNING node_id""",
        (
            [row.node_id for row in rows],
            [row.identifier.type for row in rows],
            [row.identifier.value for row in rows],
            [row.profile_id for row in rows],
            [row.component_id for row in rows],
            [row.sighting.first for row in rows],
            [row.sighting.last for row in rows],
            [row.sighting.events for row in rows],
            [_array_text(row.sighting.sources) for row in rows],
        ),
    ).fetchall()
    return {row[0] for row in made}


def _pack_row(row: FreshNode) -> bytes:
    identifier, seen = row.identifier, row.sighting
    sources = sorted(seen.sources)
    count = len(sources)
    return b"".join(
        (
            _pack_numbers(9, 8, row.node_id, 8, row.component_id, 8, seen.events),
            pack_text(identifier.type),
            pack_text(identifier.value),
            pack_text(row.profile_id),
            pack_time(seen.first),
            pack_time(seen.last),
            _pack_source(28, 1, 0, _INTEGER, 1, 1, 4, sources[0])
            if count == 1
            else struct.pack(
                f"!iiiIii{'ii' * count}", 20 + 8 * count, 1, 0, _INTEGER, count, 1,
                *(number for source in sources for number in (4, source)),
            ),
        )
    )  # fmt: skip


def make_shared_node(
    conn: Driver, salt: bytes, device: Identifier, component_id: int, since: datetime
) -> tuple[int, str]:
    """Make the node that names a shared device's own profile; return its id and profile id."""
    profile_id = make_profile_id(salt, device.type, device.value, SHARED)
    row = conn.execute(
        """INSERT INTO nodes (type, value, variant, profile_id, component_id, first_seen, last_seen)
           VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING node_id""",
        (device.type, device.value, SHARED, profile_id, component_id, since, since),
    ).fetchone()
    assert row is not None
    return int(row[0]), profile_id


def update_nodes(conn: Driver, updates: Mapping[int, NodeUpdate]) -> None:
    """Add counters and move nodes to their components, in the order of their ids.

    Raises ``StaleNodes`` when one does not exist.
    """
    rows = sorted(updates.values(), key=lambda update: update.node_id)
    if not rows:
        return
    seen = [row.sighting for row in rows]
    done = conn.execute(
        """UPDATE nodes n
              SET first_seen = least(n.first_seen, u.first),
                  last_seen = greatest(n.last_seen, u.last),
                  events = n.events + u.events,
                  source_numbers = CASE
                      WHEN n.source_numbers @> u.sources::int[] THEN n.source_numbers
                      ELSE ARRAY(SELECT DISTINCT s FROM unnest(n.source_numbers || u.sources::int[])
                                 AS s ORDER BY s) END,
                  component_id = coalesce(u.component_id, n.component_id)
             FROM unnest(%b::bigint[], %b::timestamptz[], %b::timestamptz[], %b::bigint[],
                         %b::text[], %b::bigint[])
                  AS u (node_id, first, last, events, sources, component_id)
            WHERE n.node_id = u.node_id""",
        (
            [row.node_id for row in rows],
            [None if node is None else node.first for node in seen],
            [None if node is None else node.last for node in seen],
            [0 if node is None else node.events for node in seen],
            ["{}" if node is None else _array_text(node.sources) for node in seen],
            [row.component_id for row in rows],
        ),
    )
    if done.rowcount != len(rows):
        raise StaleNodes("a node was erased; the batch must be done again")


def quarantine_nodes(conn: Driver, node_ids: Iterable[int]) -> None:
    """Mark hot nodes, so that their later links join no component."""
    conn.execute("UPDATE nodes SET quarantined = true WHERE node_id = ANY(%b)", (sorted(node_ids),))


def _array_text(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, sorted(numbers))) + "}"
