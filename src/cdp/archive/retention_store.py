"""Rules of retention, and what they removed, in Postgres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from psycopg import sql

from cdp.archive.archive_store import name_table
from cdp.archive.retention import Cutoff, Rule
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver

Counts = Counter[tuple[int, str]]
"""Events by source number and the name of the cutoff that let them go."""

_REMOVE = """
WITH gone AS (
    DELETE FROM {} e
     USING unnest(%s::int[], %s::text[], %s::timestamptz[]) AS c (number, event, before)
     WHERE e.source_number = c.number AND e.at < c.before
       AND (c.event = '' OR c.event = CASE WHEN e.type IN ('page', 'screen') THEN e.type
                                           WHEN e.type = 'track' THEN e.name END)
    RETURNING e.source_number, c.event, e.node_id)
SELECT source_number, event, count(*), array_agg(DISTINCT node_id) FROM gone GROUP BY 1, 2
"""

# What was said of service stands beside the timeline too, as it was sent; and what was kept of
# days that were dropped.
_REMOVE_BESIDE = """
DELETE FROM {} e
 USING unnest(%s::int[], %s::text[], %s::timestamptz[]) AS c (number, event, before)
 WHERE e.source_number = c.number AND e.at < c.before AND c.event IN ('', e.{})
"""
_BESIDE = {"service_events": "name", "touch_facts": "event", "shared_device_facts": "event"}


def read_rules(conn: Driver) -> list[Rule]:
    """Return the workspace's rules, as they were put."""
    rows = conn.execute("SELECT source_id, event, days FROM retention_rules ORDER BY rule_no")
    return [Rule(*row) for row in rows]


def read_source_rules(conn: Driver) -> list[Rule]:
    """Return the rules that sources have in their settings."""
    rows = conn.execute(
        """SELECT source_id, (settings ->> 'retention_days')::int FROM sources
            WHERE settings ->> 'retention_days' IS NOT NULL ORDER BY number"""
    )
    return [Rule(source_id, None, days) for source_id, days in rows]


def replace_rules(conn: Driver, rules: Sequence[Rule]) -> None:
    """Let these be the workspace's rules."""
    conn.execute("DELETE FROM retention_rules")
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO retention_rules (source_id, event, days) VALUES (%s, %s, %s)", rules
        )


def read_sources(conn: Driver) -> dict[str, int]:
    """Return the numbers of all sources by their ids."""
    return dict(conn.execute("SELECT source_id, number FROM sources").fetchall())


def announce(conn: Driver, cutoffs: Sequence[Cutoff]) -> None:
    """Say up to when events go, before any goes; followers read it here. It never moves back.

    What stands of them beside the timeline goes at once.
    """
    with conn.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO retention_removals AS r (source_number, event, before)
               VALUES (%s, %s, %s)
               ON CONFLICT (source_number, event) DO UPDATE
                  SET before = greatest(r.before, excluded.before)""",
            cutoffs,
        )
    columns = zip(*cutoffs, strict=True) if cutoffs else ((), (), ())
    asked = [list(column) for column in columns]
    for table, name in _BESIDE.items():
        statement = sql.SQL(_REMOVE_BESIDE).format(sql.Identifier(table), sql.Identifier(name))
        conn.execute(statement, asked)
    close_batch(conn, open_batch(conn), BatchChanges())


def remove_from_day(conn: Driver, day: date, cutoffs: Sequence[Cutoff], now: datetime) -> int:
    """Remove what is past its time of the rows of one day; return how many they were."""
    rows: list[tuple[Any, ...]] = conn.execute(
        sql.SQL(_REMOVE).format(name_table(day)),
        (
            [one.source_number for one in cutoffs],
            [one.event for one in cutoffs],
            [one.before for one in cutoffs],
        ),
    ).fetchall()
    counts: Counts = Counter({(number, event): count for number, event, count, _ in rows})
    nodes = {node for *_, found in rows for node in found if node is not None}
    note_removed(conn, counts, nodes, now)
    return counts.total()


def note_removed(conn: Driver, counts: Counts, nodes: set[int], now: datetime) -> None:
    """Add to what was removed, and let followers look at the people again."""
    if not counts:
        return
    with conn.cursor() as cursor:
        cursor.executemany(
            """UPDATE retention_removals SET removed = removed + %s, removed_at = %s
                WHERE source_number = %s AND event = %s""",
            [(count, now, *key) for key, count in sorted(counts.items())],
        )
    changes = BatchChanges()
    changes.profiles.update(
        row[0]
        for row in conn.execute(
            "SELECT DISTINCT profile_no FROM node_profiles WHERE node_id = ANY(%s)",
            (list(nodes),),
        )
    )
    close_batch(conn, open_batch(conn), changes)


def read_removals(conn: Driver) -> list[dict[str, Any]]:
    """Return what was removed by source and name, and up to when."""
    rows = conn.execute(
        """SELECT s.source_id, nullif(r.event, ''), r.before, r.removed, r.removed_at
             FROM retention_removals r JOIN sources s ON s.number = r.source_number
            ORDER BY s.number, r.event"""
    )
    names = ("source", "event", "before", "removed", "removed_at")
    return [dict(zip(names, row, strict=True)) for row in rows]
