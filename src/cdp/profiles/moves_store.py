"""How a person moved between segments and between values of tags, for whoever is told all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cdp.storage.database import Driver

Rows = list[dict[str, Any]]

_SEGMENTS = """
SELECT segment, change, at, cause, version FROM membership_changes
 WHERE profile_id = ANY(%s) ORDER BY change_no
"""
_TAGS = """
SELECT key, value, at, cause, version FROM tag_changes
 WHERE profile_id = ANY(%s) ORDER BY change_no
"""
_TO_COME = """
SELECT key, level::json, since, due_at FROM tag_moves
 WHERE profile_no = %s ORDER BY due_at, key, tag_moves.level
"""


class Moves(NamedTuple):
    """Of one person, in order."""

    segments: Rows
    tags: Rows
    """A value that is ``None`` says that the tag was lost."""
    to_come: Rows
    """Tiers that they were not below (or above) since, and that they take at ``due_at``."""


def read_moves(connection: Driver, profile_no: int, profile_ids: Sequence[str]) -> Moves:
    """Return every move under any of the ids that a person went by."""
    ids = list(profile_ids)
    return Moves(
        _read(connection, _SEGMENTS, ids, ("segment", "change", "at", "cause", "version")),
        _read(connection, _TAGS, ids, ("key", "value", "at", "cause", "version")),
        _read(connection, _TO_COME, profile_no, ("key", "value", "since", "due_at")),
    )


def _read(connection: Driver, sql: str, whose: Any, names: Sequence[str]) -> Rows:
    return [dict(zip(names, row, strict=True)) for row in connection.execute(sql, (whose,))]
