"""Sources and their write keys in Postgres; the directory that ingest asks is re-exported.

A write key is kept readable: it lies open in every web page, and an operator must be able to look
it up. Whoever changes a source or a key tells everybody in the same transaction by ``NOTIFY``.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from cdp.errors import NotFound
from cdp.ingest.source_directory import SOURCES_CHANNEL, SourceDirectory
from cdp.model import Source, SourceType
from cdp.storage.database import Driver

__all__ = [
    "KeyRow",
    "SourceDirectory",
    "SourceRow",
    "add_key",
    "create_source",
    "delete_key",
    "find_source",
    "list_sources",
    "patch_source",
]

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A write key in use."""

    key_id: str
    write_key: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as people see it, with its keys, oldest first."""

    source: Source
    created_at: datetime
    disabled_at: datetime | None
    keys: tuple[KeyRow, ...]


def create_source(
    connection: Driver, name: str, type: SourceType, settings: Mapping[str, Any]
) -> tuple[Source, str]:
    """Make a source with its first write key; return both."""
    source_id = f"src_{_random_text(12)}"
    row = connection.execute(
        # Not the transaction's time: of two made in one, the first is the older.
        """INSERT INTO sources (source_id, name, type, settings, created_at)
           VALUES (%s, %s, %s, %s, clock_timestamp())
           RETURNING number""",
        (source_id, name, type, Jsonb(dict(settings))),
    ).fetchone()
    assert row is not None
    _, write_key = add_key(connection, source_id)
    return Source(source_id, row[0], name, type, dict(settings)), write_key


def list_sources(
    connection: Driver, *, limit: int = 1000, after: tuple[datetime, str] | None = None
) -> list[SourceRow]:
    """Return sources, oldest first, behind the creation time and id ``after``."""
    rows = connection.execute(
        f"""{_SELECT} WHERE %(after)s::timestamptz IS NULL
               OR (s.created_at, s.source_id) > (%(after)s::timestamptz, %(after_id)s::text)
             ORDER BY s.created_at, s.source_id LIMIT %(limit)s""",
        {
            "after": after and after[0],
            "after_id": after and after[1],
            "limit": limit,
        },
    ).fetchall()
    return [_read_row(row) for row in rows]


def find_source(connection: Driver, source_id: str) -> SourceRow:
    """Return one source; raises ``NotFound``."""
    row = connection.execute(f"{_SELECT} WHERE s.source_id = %s", (source_id,)).fetchone()
    if row is None:
        raise NotFound("source_not_found", f"there is no source {source_id!r}")
    return _read_row(row)


def patch_source(
    connection: Driver,
    source_id: str,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    disabled: bool | None = None,
) -> SourceRow:
    """Change what is given; the keys of ``settings`` are merged, null removes one.

    Raises ``NotFound``.
    """
    changed = connection.execute(
        """UPDATE sources
              SET name = coalesce(%(name)s, name),
                  settings = jsonb_strip_nulls(settings || coalesce(%(settings)s::jsonb, '{}')),
                  disabled_at = CASE WHEN %(disabled)s::boolean IS NULL THEN disabled_at
                                     WHEN %(disabled)s THEN coalesce(disabled_at, now()) END
            WHERE source_id = %(source_id)s""",
        {
            "name": name,
            "settings": None if settings is None else Jsonb(dict(settings)),
            "disabled": disabled,
            "source_id": source_id,
        },
    ).rowcount
    if changed:
        _tell(connection)
    return find_source(connection, source_id)


def add_key(connection: Driver, source_id: str) -> tuple[str, str]:
    """Give a source one more write key; return its id and the key. Raises ``NotFound``."""
    key_id, write_key = f"key_{_random_text(12)}", _random_text(32)
    inserted = connection.execute(
        """INSERT INTO write_keys (key_id, source_id, write_key)
           SELECT %s, source_id, %s FROM sources WHERE source_id = %s""",
        (key_id, write_key, source_id),
    ).rowcount
    if not inserted:
        raise NotFound("source_not_found", f"there is no source {source_id!r}")
    _tell(connection)
    return key_id, write_key


def delete_key(connection: Driver, source_id: str, key_id: str) -> None:
    """Make a write key useless. Raises ``NotFound``."""
    deleted = connection.execute(
        "DELETE FROM write_keys WHERE source_id = %s AND key_id = %s", (source_id, key_id)
    ).rowcount
    if not deleted:
        raise NotFound("key_not_found", f"source {source_id!r} has no key {key_id!r}")
    _tell(connection)


_SELECT = """
    SELECT s.source_id, s.number, s.name, s.type, s.settings, s.created_at, s.disabled_at,
           coalesce((SELECT array_agg(k.key_id ORDER BY k.created_at, k.key_id)
                       FROM write_keys k WHERE k.source_id = s.source_id), '{}'),
           coalesce((SELECT array_agg(k.write_key ORDER BY k.created_at, k.key_id)
                       FROM write_keys k WHERE k.source_id = s.source_id), '{}'),
           coalesce((SELECT array_agg(k.created_at ORDER BY k.created_at, k.key_id)
                       FROM write_keys k WHERE k.source_id = s.source_id), '{}')
      FROM sources s"""


def _read_row(row: tuple[Any, ...]) -> SourceRow:
    source_id, number, name, type_, settings, created_at, disabled_at, ids, keys, times = row
    return SourceRow(
        Source(source_id, number, name, type_, settings),
        created_at,
        disabled_at,
        tuple(map(KeyRow, ids, keys, times)),
    )


def _tell(connection: Driver) -> None:
    connection.execute(f"NOTIFY {SOURCES_CHANNEL}")


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
