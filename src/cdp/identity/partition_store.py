"""The computed partition in Postgres: ``node_profiles``, ``profiles``, refusals, history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from psycopg.types.json import Jsonb

from cdp.identity.facts import Refusal
from cdp.identity.partition import PartitionDiff, Span
from cdp.identity.sightings import NodeSighting
from cdp.storage.database import Driver


def find_touched(conn: Driver, seen: Mapping[int, NodeSighting]) -> set[int]:
    """Return the profiles that own the sighted nodes at the times of the sightings."""
    rows = conn.execute(
        """SELECT DISTINCT s.profile_no
             FROM unnest(%b::bigint[], %b::timestamptz[], %b::timestamptz[])
                  AS u (node_id, first, last)
             JOIN node_profiles s
               ON s.node_id = u.node_id AND s.since <= u.last AND s.until > u.first""",
        (list(seen), [node.first for node in seen.values()], [n.last for n in seen.values()]),
    ).fetchall()
    return {row[0] for row in rows}


def bump_profiles(conn: Driver, profile_nos: Collection[int], now: datetime) -> None:
    """Count one more version for each profile, in the order of their numbers."""
    conn.execute(
        """UPDATE profiles p SET version = p.version + 1, changed_at = %b
             FROM unnest(%b::bigint[]) AS t (profile_no) WHERE p.profile_no = t.profile_no""",
        (now, sorted(profile_nos)),
    )


def lock_profiles(conn: Driver, profile_nos: Collection[int]) -> None:
    """Lock profile rows in the order of their numbers, before several statements write them."""
    conn.execute(
        """SELECT FROM profiles WHERE profile_no = ANY(%b) ORDER BY profile_no FOR UPDATE""",
        (sorted(profile_nos),),
    )


def write_diff(conn: Driver, diff: PartitionDiff, batch_id: int, now: datetime) -> None:
    """Write the rows of a diff and the history that it makes."""
    _delete_spans(conn, diff.stale)
    if diff.gone:
        conn.execute("DELETE FROM profiles WHERE profile_no = ANY(%b)", (diff.gone,))
    _insert_spans(conn, diff.fresh)
    if diff.made:
        made = sorted(diff.made)
        conn.execute(
            """INSERT INTO profiles (profile_no, profile_id, version, joined_at, changed_at)
               SELECT m.*, %b FROM unnest(%b::bigint[], %b::text[], %b::bigint[],
                                          %b::timestamptz[]) AS m""",
            (now, *_columns(made)),
        )
    if diff.changed:
        changed = sorted(diff.changed)
        conn.execute(
            """UPDATE profiles p
                  SET version = greatest(c.version, p.version + 1),
                      joined_at = c.joined_at, changed_at = %b
                 FROM unnest(%b::bigint[], %b::text[], %b::bigint[], %b::timestamptz[])
                      AS c (profile_no, profile_id, version, joined_at)
                WHERE p.profile_no = c.profile_no""",
            (now, *_columns(changed)),
        )
    if diff.changes:
        conn.execute(
            """INSERT INTO profile_changes (profile_id, change, details, batch_id, at)
               SELECT c.*, %b, %b
                 FROM unnest(%b::text[], %b::text[], %b::jsonb[]) AS c""",
            (
                batch_id,
                now,
                [change.profile_id for change in diff.changes],
                [change.change for change in diff.changes],
                [Jsonb(change.details) for change in diff.changes],
            ),
        )


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _delete_spans(conn: Driver, spans: Iterable[tuple[int, Span]]) -> None:
    rows = sorted(spans, key=_place)
    if not rows:
        return
    conn.execute(
        """DELETE FROM node_profiles p
            USING unnest(%b::bigint[], %b::timestamptz[]) AS s (node_id, since)
            WHERE p.node_id = s.node_id AND p.since = coalesce(s.since, '-infinity')""",
        ([node_id for node_id, _ in rows], [span.since for _, span in rows]),
    )


def _place(row: tuple[int, Span]) -> tuple[int, bool, float]:
    node_id, span = row
    return node_id, span.since is not None, span.since.timestamp() if span.since else 0.0


def _insert_spans(conn: Driver, spans: Iterable[tuple[int, Span]]) -> None:
    rows = [(node_id, *span) for node_id, span in sorted(spans, key=_place)]
    if not rows:
        return
    conn.execute(
        """INSERT INTO node_profiles (node_id, since, until, profile_no)
           SELECT s.node_id, coalesce(s.since, '-infinity'), coalesce(s.until, 'infinity'),
                  s.profile_no
             FROM unnest(%b::bigint[], %b::timestamptz[], %b::timestamptz[], %b::bigint[])
                  AS s (node_id, since, until, profile_no)""",
        _columns(rows),
    )


def write_refusals(
    conn: Driver, stored: Mapping[Refusal, tuple[int, int]], wanted: Mapping[Refusal, int]
) -> None:
    """Make the stored refusals (id, component) the wanted ones (component)."""
    stale = sorted(stored[refusal][0] for refusal in stored.keys() - wanted.keys())
    if stale:
        conn.execute("DELETE FROM refusals WHERE refusal_id = ANY(%b)", (stale,))
    fresh = [(component, *refusal) for refusal, component in wanted.items()
             if refusal not in stored]  # fmt: skip
    if fresh:
        conn.execute(
            """INSERT INTO refusals (component_id, link_id, node_a, node_b, reason, at)
               SELECT r.* FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
                                      %b::text[], %b::timestamptz[]) AS r""",
            _columns(fresh),
        )
    moved = sorted(
        (stored[refusal][0], component)
        for refusal, component in wanted.items()
        if refusal in stored and stored[refusal][1] != component
    )
    if moved:
        conn.execute(
            """UPDATE refusals r SET component_id = m.component_id
                 FROM unnest(%b::bigint[], %b::bigint[]) AS m (refusal_id, component_id)
                WHERE r.refusal_id = m.refusal_id""",
            _columns(moved),
        )
