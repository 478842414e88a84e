"""Tombstones: who was deleted and who is not to be heard, known by salted hashes alone.

Written under the exclusive lock on who is who, read under the shared one, so that no batch that
began before a deletion ends after it with what was deleted.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from psycopg.types.json import Jsonb

from cdp.model import Identifier
from cdp.storage.database import Driver

_MOST_REMEMBERED = 500_000


class Tombstone(NamedTuple):
    """What is known of an identifier that was deleted or silenced."""

    deleted_at: datetime | None
    generation: int
    """How often it was deleted."""
    is_suppressed: bool


def ensure_privacy_salt(conn: Driver) -> bytes:
    """Return the workspace's salt behind these hashes; the first caller makes it."""
    conn.execute(
        """INSERT INTO workspace (name, value) VALUES ('privacy_salt', %s)
           ON CONFLICT (name) DO NOTHING""",
        (Jsonb(secrets.token_hex(32)),),
    )
    row = conn.execute("SELECT value FROM workspace WHERE name = 'privacy_salt'").fetchone()
    assert row is not None
    return bytes.fromhex(row[0])


def hash_identifier(salt: bytes, identifier: Identifier) -> bytes:
    """Return the 16 bytes that stand for ``identifier``: keyed BLAKE2b (RFC 7693)."""
    text = f"{identifier.type}\0{identifier.value}".encode("utf-8", "replace")
    return blake2b(text, key=salt[:64], digest_size=16).digest()


def read_tombstone_count(conn: Driver) -> int:
    """Return a number that grows whenever tombstones change; 0 as long as there never were any."""
    row = conn.execute("SELECT value FROM workspace WHERE name = 'tombstones'").fetchone()
    return 0 if row is None else int(row[0])


def read_tombstones(conn: Driver, hashes: Collection[bytes]) -> dict[bytes, Tombstone]:
    """Return those of ``hashes`` that have a tombstone."""
    rows = conn.execute(
        """SELECT identifier_hash, deleted_at, generation, suppressed_by IS NOT NULL
             FROM privacy_tombstones WHERE identifier_hash = ANY(%b::bytea[])""",
        (list(hashes),),
    )
    return {row[0]: Tombstone(*row[1:]) for row in rows}


def bury(conn: Driver, hashes: Iterable[bytes], at: datetime) -> None:
    """Say that these identifiers were deleted at ``at``, once more if they were before."""
    conn.execute(
        """INSERT INTO privacy_tombstones AS t (identifier_hash, deleted_at, generation)
           SELECT h, %s, 1 FROM unnest(%s::bytea[]) AS h ORDER BY h
               ON CONFLICT (identifier_hash) DO UPDATE
              SET deleted_at = greatest(t.deleted_at, excluded.deleted_at),
                  generation = t.generation + 1""",
        (at, sorted(set(hashes))),
    )
    _count_change(conn)


def silence(conn: Driver, hashes: Iterable[bytes], job_id: str) -> int:
    """Let these identifiers be heard no more; return how many were heard before."""
    done = conn.execute(
        """INSERT INTO privacy_tombstones AS t (identifier_hash, suppressed_by)
           SELECT h, %s FROM unnest(%s::bytea[]) AS h ORDER BY h
               ON CONFLICT (identifier_hash) DO UPDATE SET suppressed_by = excluded.suppressed_by
            WHERE t.suppressed_by IS NULL""",
        (job_id, sorted(set(hashes))),
    )
    _count_change(conn)
    return done.rowcount


def let_speak(conn: Driver, hashes: Iterable[bytes]) -> int:
    """Let these be heard again, with whatever was silenced together with them; return how many."""
    done = conn.execute(
        """UPDATE privacy_tombstones SET suppressed_by = NULL
            WHERE suppressed_by IN (SELECT suppressed_by FROM privacy_tombstones
                                     WHERE identifier_hash = ANY(%s::bytea[]))""",
        (sorted(set(hashes)),),
    )
    # Without a deletion nothing is left to remember.
    conn.execute(
        "DELETE FROM privacy_tombstones WHERE suppressed_by IS NULL AND deleted_at IS NULL"
    )
    _count_change(conn)
    return done.rowcount


def _count_change(conn: Driver) -> None:
    conn.execute(
        """INSERT INTO workspace AS w (name, value) VALUES ('tombstones', '1')
           ON CONFLICT (name) DO UPDATE SET value = to_jsonb((w.value #>> '{}')::bigint + 1)"""
    )


class Tombstones:
    """The tombstones as one worker knows them. Costs one look at a counter while there are none."""

    def __init__(self) -> None:
        self._count = 0
        self._salt: bytes | None = None
        self._known: dict[Identifier, Tombstone | None] = {}

    def look(self, conn: Driver) -> bool:
        """Return whether tombstones changed since the last look. ``conn`` shares the rules."""
        count = read_tombstone_count(conn)
        if count == self._count:
            return False
        self._count = count
        self._known.clear()
        return True

    @property
    def has_any(self) -> bool:
        """Whether there ever was one."""
        return self._count > 0

    def find(self, conn: Driver, identifiers: Iterable[Identifier]) -> dict[Identifier, Tombstone]:
        """Return those of ``identifiers`` that have a tombstone, as of the last ``look``."""
        wanted = set(identifiers)
        unknown = [one for one in wanted if one not in self._known]
        if unknown:
            self._learn(conn, unknown)
        found = {}
        for one in wanted:
            stone = self._known[one]
            if stone is not None:
                found[one] = stone
        return found

    def _learn(self, conn: Driver, unknown: list[Identifier]) -> None:
        if self._salt is None:
            self._salt = ensure_privacy_salt(conn)
        if len(self._known) + len(unknown) > _MOST_REMEMBERED:
            self._known = {one: stone for one, stone in self._known.items() if stone is not None}
        hashes = {one: hash_identifier(self._salt, one) for one in unknown}
        found = read_tombstones(conn, hashes.values())
        for one, key in hashes.items():
            self._known[one] = found.get(key)
