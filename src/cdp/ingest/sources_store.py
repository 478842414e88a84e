"""Sources and their write keys in Postgres; the directory that ingest asks is re-exported.

A write key is kept readable: it lies open in every web page, and an operator must be able to look
it up. Whoever changes a source or a key tells everybody in the same transaction by ``NOTIFY``.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
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
    "end_other_keys",
    "find_source",
    "list_sources",
    "patch_key",
    "patch_source",
]

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A write key."""

    key_id: str
    write_key: str
    created_at: datetime
    last_used_at: datetime | None = None
    """To within some ten seconds; ``None`` when it never was."""
    disabled_at: datetime | None = None
    ends_at: datetime | None = None

    def is_good(self, at: datetime) -> bool:
        """Whether events that come with it are taken."""
        return self.disabled_at is None and (self.ends_at is None or self.ends_at > at)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as people see it, with its keys, oldest first."""

    source: Source
    created_at: datetime
    disabled_at: datetime | None
    keys: tuple[KeyRow, ...]


_API_SOURCE = """
SELECT source_id FROM sources WHERE name = 'api' AND type = 'server' AND disabled_at IS NULL
 ORDER BY created_at, source_id LIMIT 1
"""
_API_SOURCE_LOCK = 7263581


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


def ensure_api_source(connection: Driver) -> str:
    """Return the id of the source of what is stated through the API; makes it the first time."""
    found = connection.execute(_API_SOURCE).fetchone()
    if found is None:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_API_SOURCE_LOCK,))
        found = connection.execute(_API_SOURCE).fetchone()
    return found[0] if found else create_source(connection, "api", "server", {})[0].source_id


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
    return _read_rows(connection, rows)


def find_source(connection: Driver, source_id: str, *, for_change: bool = False) -> SourceRow:
    """Return one source, locked when it is to be changed; raises ``NotFound``."""
    lock = "FOR UPDATE OF s" if for_change else ""
    row = connection.execute(f"{_SELECT} WHERE s.source_id = %s {lock}", (source_id,)).fetchone()
    if row is None:
        raise NotFound("source_not_found", f"there is no source {source_id!r}")
    return _read_rows(connection, [row])[0]


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


def end_other_keys(connection: Driver, source_id: str, key_id: str, ends_at: datetime) -> int:
    """Let all other keys of a source end by ``ends_at``; return how many that changes."""
    changed = connection.execute(
        """UPDATE write_keys SET ends_at = %s
            WHERE source_id = %s AND key_id <> %s AND (ends_at IS NULL OR ends_at > %s)""",
        (ends_at, source_id, key_id, ends_at),
    ).rowcount
    if changed:
        _tell(connection)
    return changed


def patch_key(
    connection: Driver,
    source_id: str,
    key_id: str,
    *,
    disabled: bool | None = None,
    ends_at: datetime | None = None,
    has_end: bool | None = None,
) -> KeyRow:
    """Disable a key or enable it again; with ``has_end`` give it an end, or take that away.

    Raises ``NotFound``.
    """
    row = connection.execute(
        f"""UPDATE write_keys
               SET disabled_at = CASE WHEN %(disabled)s::boolean IS NULL THEN disabled_at
                                      WHEN %(disabled)s THEN coalesce(disabled_at, now()) END,
                   ends_at = CASE WHEN %(has_end)s::boolean IS NULL THEN ends_at
                                  WHEN %(has_end)s THEN %(ends_at)s::timestamptz END
             WHERE source_id = %(source_id)s AND key_id = %(key_id)s
         RETURNING {_KEY_COLUMNS}""",
        {
            "disabled": disabled,
            "has_end": has_end,
            "ends_at": ends_at,
            "source_id": source_id,
            "key_id": key_id,
        },
    ).fetchone()
    if row is None:
        raise _no_key(source_id, key_id)
    _tell(connection)
    return KeyRow(*row)


def delete_key(connection: Driver, source_id: str, key_id: str) -> None:
    """Make a write key useless. Raises ``NotFound``."""
    deleted = connection.execute(
        "DELETE FROM write_keys WHERE source_id = %s AND key_id = %s", (source_id, key_id)
    ).rowcount
    if not deleted:
        raise _no_key(source_id, key_id)
    _tell(connection)


def _no_key(source_id: str, key_id: str) -> NotFound:
    return NotFound("key_not_found", f"source {source_id!r} has no key {key_id!r}")


_KEY_COLUMNS = "key_id, write_key, created_at, last_used_at, disabled_at, ends_at"
_SELECT = """
    SELECT s.source_id, s.number, s.name, s.type, s.settings, s.created_at, s.disabled_at
      FROM sources s"""


def _read_rows(connection: Driver, rows: Sequence[tuple[Any, ...]]) -> list[SourceRow]:
    keys: dict[str, list[KeyRow]] = {row[0]: [] for row in rows}
    found = connection.execute(
        f"""SELECT source_id, {_KEY_COLUMNS} FROM write_keys WHERE source_id = ANY(%s)
             ORDER BY created_at, key_id""",
        (list(keys),),
    )
    for source_id, *key in found:
        keys[source_id].append(KeyRow(*key))
    return [
        SourceRow(Source(*row[:5]), created_at, disabled_at, tuple(keys[row[0]]))
        for row in rows
        for created_at, disabled_at in (row[5:],)
    ]


def _tell(connection: Driver) -> None:
    connection.execute(f"NOTIFY {SOURCES_CHANNEL}")


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
