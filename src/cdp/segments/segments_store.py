"""Segment definitions in Postgres: the newest version of each, and every version ever written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.segments.definitions import Definition
from cdp.storage.database import Driver

_COLUMNS = """key, name, description, rule, consent, version, evaluated_version, first_change_no,
              created_at, updated_at"""
_DEFINITION_LOCK = 7263544


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as stored. ``rule`` is the tree as it was written."""

    key: str
    name: str
    description: str
    rule: Any
    consent: str | None
    version: int
    evaluated_version: int
    first_change_no: int
    created_at: datetime
    updated_at: datetime

    @property
    def definition(self) -> Definition:
        return Definition(
            "segment", self.key, self.rule, self.version, self.evaluated_version, self.consent
        )


@dataclass(frozen=True, slots=True)
class SegmentVersion:
    """One version of a segment's rule: who wrote it, and when."""

    version: int
    rule: Any
    actor: str
    at: datetime


def lock_definitions(connection: Driver) -> None:
    """Let one transaction at a time change definitions, so that two cannot close a circle."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_DEFINITION_LOCK,))


def list_segments(
    connection: Driver, *, limit: int | None = None, after: str = ""
) -> list[Segment]:
    """Return the segments by key, after the key ``after``; all of them without ``limit``."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM segments WHERE key > %s ORDER BY key LIMIT %s", (after, limit)
    )
    return [Segment(*row) for row in rows]


def find_segment(connection: Driver, key: str) -> Segment | None:
    """Return the segment ``key``, if there is one."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM segments WHERE key = %s", (key,)).fetchone()
    return None if row is None else Segment(*row)


def create_segment(
    connection: Driver,
    *,
    key: str,
    name: str,
    description: str,
    rule: Any,
    consent: str | None,
    actor: str,
    now: datetime,
) -> Segment | None:
    """Store a new segment; ``None`` when the key is taken.

    A key that existed before goes on counting its versions, and its changes start here.
    """
    row = connection.execute(
        f"""INSERT INTO segments (key, name, description, rule, consent, version,
                                  first_change_no, created_at, updated_at)
            SELECT %s, %s, %s, %s::json, %s,
                   1 + coalesce((SELECT max(version) FROM segment_versions WHERE key = %s), 0),
                   change_no, %s, %s
              FROM refresh_head
                ON CONFLICT (key) DO NOTHING
         RETURNING {_COLUMNS}""",
        (key, name, description, json.dumps(rule), consent, key, now, now),
    ).fetchone()
    if row is None:
        return None
    segment = Segment(*row)
    _keep_version(connection, segment, actor)
    return segment


def update_segment(
    connection: Driver,
    key: str,
    *,
    name: str,
    description: str,
    rule: Any,
    consent: str | None,
    actor: str,
    now: datetime,
) -> Segment | None:
    """Store a new version; ``None`` when there is no such segment."""
    row = connection.execute(
        f"""UPDATE segments
               SET name = %s, description = %s, rule = %s::json, consent = %s,
                   version = version + 1, updated_at = %s
             WHERE key = %s
         RETURNING {_COLUMNS}""",
        (name, description, json.dumps(rule), consent, now, key),
    ).fetchone()
    if row is None:
        return None
    segment = Segment(*row)
    _keep_version(connection, segment, actor)
    return segment


def delete_segment(connection: Driver, key: str) -> bool:
    """Remove the definition; its versions and changes stay. Return whether it existed."""
    return connection.execute("DELETE FROM segments WHERE key = %s", (key,)).rowcount == 1


def list_versions(connection: Driver, key: str) -> list[SegmentVersion]:
    """Return every version of a segment's rule, oldest first."""
    rows = connection.execute(
        """SELECT version, rule, actor, at FROM segment_versions
            WHERE key = %s ORDER BY version""",
        (key,),
    )
    return [SegmentVersion(*row) for row in rows]


def mark_evaluated(connection: Driver, key: str, version: int) -> None:
    """Write down which version the memberships follow."""
    connection.execute("UPDATE segments SET evaluated_version = %s WHERE key = %s", (version, key))


def _keep_version(connection: Driver, segment: Segment, actor: str) -> None:
    connection.execute(
        "INSERT INTO segment_versions (key, version, rule, actor, at) VALUES (%s, %s, %s, %s, %s)",
        (segment.key, segment.version, json.dumps(segment.rule), actor, segment.updated_at),
    )
