"""Moves of tags that wait for their time, in Postgres."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from cdp.storage.database import Driver


def read_moves(connection: Driver, key: str, profiles: Sequence[int] | None) -> pa.Table:
    """Return who waits (profile_no, level, rises, since): everybody, or those of ``profiles``."""
    rows = connection.execute(
        """SELECT profile_no, level, rises, since FROM tag_moves
            WHERE key = %s AND (%s::bigint[] IS NULL OR profile_no = ANY(%s::bigint[]))""",
        (key, None if profiles is None else list(profiles), list(profiles or [])),
    ).fetchall()
    columns: Any = list(zip(*rows, strict=True)) or [[], [], [], []]
    return pa.table(
        {
            "profile_no": pa.array(columns[0], pa.int64()),
            "level": pa.array(columns[1], pa.string()),
            "rises": pa.array(columns[2], pa.bool_()),
            "since": pa.array(columns[3], pa.timestamp("us", "UTC")),
        }
    )


def write_moves(connection: Driver, key: str, gone: pa.Table, begun: pa.Table) -> None:
    """Take away who waits no longer (profile_no, level), and add who has begun to

    (profile_no, level, rises, since, due_at).
    """
    if gone.num_rows:
        connection.execute(
            """DELETE FROM tag_moves m
                USING unnest(%s::bigint[], %s::text[]) AS g (profile_no, level)
                WHERE m.key = %s AND m.profile_no = g.profile_no AND m.level = g.level""",
            (gone["profile_no"].to_pylist(), gone["level"].to_pylist(), key),
        )
    if begun.num_rows:
        columns = [begun[name].to_pylist() for name in begun.column_names]
        connection.execute(
            """INSERT INTO tag_moves (key, profile_no, level, rises, since, due_at)
               SELECT %s, b.* FROM unnest(%s::bigint[], %s::text[], %s::boolean[],
                                          %s::timestamptz[], %s::timestamptz[]) AS b""",
            (key, *columns),
        )


def delete_moves(connection: Driver, key: str) -> None:
    """Let nobody wait: the tag is no more, or defined anew."""
    connection.execute("DELETE FROM tag_moves WHERE key = %s", (key,))


def delete_moves_of_gone(connection: Driver, key: str, profiles: Sequence[int]) -> None:
    """Let those of ``profiles`` wait no longer who are no more."""
    connection.execute(
        """DELETE FROM tag_moves m WHERE key = %s AND profile_no = ANY(%s)
              AND NOT EXISTS (SELECT FROM profiles p WHERE p.profile_no = m.profile_no)""",
        (key, list(profiles)),
    )


def list_due(connection: Driver, now: datetime) -> list[tuple[str, int]]:
    """Return the tags and profiles (key, profile_no) whose time has come."""
    rows = connection.execute(
        "SELECT DISTINCT key, profile_no FROM tag_moves WHERE due_at <= %s", (now,)
    )
    return [(row[0], row[1]) for row in rows]


def find_next_due(connection: Driver, without: Collection[str]) -> datetime | None:
    """Return when the first move is due, of tags other than those ``without``."""
    row = connection.execute(
        "SELECT min(due_at) FROM tag_moves WHERE NOT key = ANY(%s)", (list(without),)
    ).fetchone()
    return None if row is None else row[0]


def count_waiting(connection: Driver, key: str) -> list[dict[str, Any]]:
    """Return how many people wait to move to which level, and when the first will."""
    rows = connection.execute(
        """SELECT level::json, rises, count(*), min(due_at) FROM tag_moves
            WHERE key = %s GROUP BY tag_moves.level, rises ORDER BY tag_moves.level, rises""",
        (key,),
    )
    return [
        {"to": level, "direction": "up" if rises else "down", "people": people, "next_at": at}
        for level, rises, people, at in rows
    ]
