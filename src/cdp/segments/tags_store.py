"""Tag definitions and values set by hand, in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.model import Identifier
from cdp.segments.builtins.computations_store import delete_computation
from cdp.segments.definitions import Definition
from cdp.segments.moves_store import delete_moves
from cdp.segments.sql_tags import SqlValues
from cdp.segments.tag_failures_store import delete_failure
from cdp.storage.database import Driver

_COLUMNS = """key, name, category, type, definition, version, evaluated_version, first_change_no,
              created_at, updated_at"""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as stored. ``document`` is its definition as it was written."""

    key: str
    name: str
    category: str
    type: str
    document: Any
    version: int
    evaluated_version: int
    first_change_no: int
    created_at: datetime
    updated_at: datetime

    @property
    def definition(self) -> Definition:
        return Definition("tag", self.key, self.document, self.version, self.evaluated_version)


@dataclass(frozen=True, slots=True)
class TagChange:
    """A value that a profile's tag took; ``None`` where it lost the tag."""

    change_no: int
    profile_id: str
    value: Any
    at: datetime
    cause: str
    version: int
    before: Any
    """The value until then; ``None`` where there was none."""


def list_tags(
    connection: Driver,
    *,
    limit: int | None = None,
    after: str = "",
    category: str | None = None,
) -> list[Tag]:
    """Return the tags by key, after the key ``after``; all of them without ``limit``."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM tags
             WHERE key > %s AND (%s::text IS NULL OR category = %s) ORDER BY key LIMIT %s""",
        (after, category, category, limit),
    )
    return [Tag(*row) for row in rows]


def list_tag_keys(connection: Driver) -> set[str]:
    """Return the keys of all tags."""
    return {row[0] for row in connection.execute("SELECT key FROM tags")}


def list_types(connection: Driver) -> dict[str, SqlValues]:
    """Return what the query of each tag by SQL gives, by key."""
    rows = connection.execute(
        "SELECT key, type, is_masked FROM tags WHERE definition -> 'sql' IS NOT NULL"
    )
    return {row[0]: SqlValues(row[1], row[2]) for row in rows}


def find_tag(connection: Driver, key: str) -> Tag | None:
    """Return the tag ``key``, if there is one."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM tags WHERE key = %s", (key,)).fetchone()
    return None if row is None else Tag(*row)


def create_tag(
    connection: Driver,
    *,
    key: str,
    name: str,
    category: str,
    type: str,
    document: Any,
    now: datetime,
    is_masked: bool = False,
) -> Tag | None:
    """Store a new tag; ``None`` when the key is taken.

    ``is_masked``: whoever defines it may not see personal values.
    """
    row = connection.execute(
        f"""INSERT INTO tags (key, name, category, type, definition, version, first_change_no,
                              created_at, updated_at, is_masked)
            SELECT %s, %s, %s, %s, %s::json,
                   1 + coalesce((SELECT max(version) FROM tag_changes WHERE key = %s), 0),
                   change_no, %s, %s, %s
              FROM refresh_head
                ON CONFLICT (key) DO NOTHING
         RETURNING {_COLUMNS}""",
        (key, name, category, type, json.dumps(document), key, now, now, is_masked),
    ).fetchone()
    return None if row is None else Tag(*row)


def update_tag(
    connection: Driver,
    key: str,
    *,
    name: str,
    category: str,
    type: str,
    document: Any,
    now: datetime,
    is_masked: bool = False,
) -> Tag | None:
    """Store a new version; ``None`` when there is no such tag."""
    row = connection.execute(
        f"""UPDATE tags SET name = %s, category = %s, type = %s, definition = %s::json,
                            version = version + 1, updated_at = %s, is_masked = %s
             WHERE key = %s
         RETURNING {_COLUMNS}""",
        (name, category, type, json.dumps(document), now, is_masked, key),
    ).fetchone()
    return None if row is None else Tag(*row)


def delete_tag(connection: Driver, key: str) -> bool:
    """Remove the definition and what was set by hand. Return whether it existed."""
    connection.execute("DELETE FROM manual_tag_values WHERE key = %s", (key,))
    delete_computation(connection, key)
    delete_failure(connection, key)
    delete_moves(connection, key)
    return connection.execute("DELETE FROM tags WHERE key = %s", (key,)).rowcount == 1


def mark_evaluated(connection: Driver, key: str, version: int) -> None:
    """Write down which version the values follow."""
    connection.execute("UPDATE tags SET evaluated_version = %s WHERE key = %s", (version, key))


def write_manual_values(
    connection: Driver, key: str, values: Sequence[tuple[int, Any]], now: datetime
) -> None:
    """Set the values of nodes by hand (``None`` removes), and have the tag evaluated anew."""
    newest = dict(values)
    connection.execute(
        """INSERT INTO manual_tag_values (key, node_id, value, at)
           SELECT %s, node_id, value, %s
             FROM unnest(%s::bigint[], %s::text[]::json[]) AS given (node_id, value)
               ON CONFLICT (key, node_id) DO UPDATE
              SET value = excluded.value, at = excluded.at""",
        (key, now, list(newest), [json.dumps(value) for value in newest.values()]),
    )
    connection.execute("UPDATE tags SET evaluated_version = 0 WHERE key = %s", (key,))


def find_nodes(connection: Driver, identifiers: Sequence[Identifier]) -> list[int | None]:
    """Return the node of each identifier: what is said of it hangs there.

    An identifier of type ``id`` is a profile id, which names a node.
    """
    rows = connection.execute(
        """SELECT (SELECT n.node_id FROM nodes n
                    WHERE asked.type <> 'id' AND n.type = asked.type AND n.value = asked.value
                      AND n.variant = ''
                    UNION ALL
                   SELECT n.node_id FROM nodes n
                    WHERE asked.type = 'id' AND n.profile_id = asked.value
                    LIMIT 1)
             FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS asked (type, value, ordinal)
            ORDER BY ordinal""",
        ([each.type for each in identifiers], [each.value for each in identifiers]),
    )
    return [row[0] for row in rows]


def read_manual_values(
    connection: Driver, key: str, nodes: Iterable[int] | None
) -> tuple[list[int], list[str], list[datetime]]:
    """Return node ids, values as JSON and times set by hand, of all nodes or of ``nodes``."""
    rows = connection.execute(
        """SELECT node_id, value::text, at FROM manual_tag_values
            WHERE key = %s AND (%s::bigint[] IS NULL OR node_id = ANY(%s::bigint[]))""",
        (key, None if nodes is None else list(nodes), [] if nodes is None else list(nodes)),
    ).fetchall()
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def list_tag_changes(connection: Driver, key: str, *, after: int, limit: int) -> list[TagChange]:
    """Return changes of a tag's values in order, after the change ``after``."""
    rows = connection.execute(
        """SELECT c.change_no, c.profile_id, c.value, c.at, c.cause, c.version,
                  (SELECT b.value FROM tag_changes b
                    WHERE b.profile_id = c.profile_id AND b.key = c.key
                      AND b.change_no < c.change_no
                    ORDER BY b.change_no DESC LIMIT 1)
             FROM tag_changes c
            WHERE c.key = %s AND c.change_no > %s ORDER BY c.change_no LIMIT %s""",
        (key, after, limit),
    )
    return [TagChange(*row) for row in rows]
