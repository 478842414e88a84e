"""Changes of profiles, for those who keep a copy: batches become rows in commit order.

Whoever works people writes nothing for this: batches say already what they touched. Here, in one
snapshot, that becomes changes: what happened to profiles, in the order of the batches; then what is
different about those that are there, against what was told of them last. So applying the changes in
order makes a copy equal to the snapshot, and saying the same thing again is no change.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg
import sqlalchemy as sa

from cdp.storage.database import Database, Driver, driver

KINDS = ("created", "merged", "parted", "identifiers", "traits", "consent", "deleted")
_TRIES = 200
_PAUSE_SECONDS = 0.025
_MOST_DROPPED = 10_000


@dataclass(frozen=True, slots=True)
class FeedRow:
    """What happened to a profile at once; ``kinds`` may be several, in the order of telling."""

    change_no: int
    profile_id: str
    at: datetime
    version: int | None
    kinds: tuple[str, ...]
    other_id: str | None
    traits: tuple[str, ...]
    purposes: tuple[str, ...]


_HEAD = """
SELECT h.seq, h.change_no, b.next_seq - 1
  FROM profile_feed_head h CROSS JOIN batch_head b
   FOR UPDATE OF h SKIP LOCKED
"""

# Values stand in the order of their age, each once: what wins is the first, whatever the rule.
_GO_ON = """
WITH w AS MATERIALIZED (
    SELECT seq, batch_id, committed_at, trait_nodes, moved_nodes, left_profiles, profiles,
           erased_nodes, erased_profiles
      FROM batches WHERE seq > %(after)s AND seq <= %(until)s),
history AS (
    SELECT w.seq, c.change_no AS place, c.change, c.profile_id, c.details, c.at
      FROM w JOIN profile_changes c ON c.batch_id = w.batch_id
     WHERE c.change IN ('created', 'merged', 'renamed', 'parted')),
happened AS (
    SELECT w.seq, 0::bigint AS place, 0 AS step, gone AS profile_id, 'deleted' AS kind,
           NULL AS other_id, w.committed_at AS at
      FROM w CROSS JOIN unnest(w.erased_profiles) AS gone
     UNION ALL
    SELECT seq, place, 0, profile_id, 'created', NULL, at
      FROM history WHERE change IN ('created', 'renamed')
     UNION ALL
    SELECT seq, place, 1, details ->> 'from', 'merged', details ->> 'into', at
      FROM history WHERE change IN ('merged', 'renamed')
     UNION ALL
    SELECT seq, place, 1, details ->> 'into', 'parted', details ->> 'from', at
      FROM history WHERE change = 'parted'),
touched AS MATERIALIZED (
    SELECT p.profile_no, p.profile_id, p.version, p.joined_at, bool_or(t.is_moved) AS is_moved,
           max(t.at) AS at
      FROM (SELECT np.profile_no, false AS is_moved, w.committed_at AS at
              FROM w CROSS JOIN unnest(w.trait_nodes) AS said (node_id)
              JOIN node_profiles np ON np.node_id = said.node_id
             UNION ALL
            SELECT np.profile_no, true, w.committed_at
              FROM w CROSS JOIN unnest(w.moved_nodes) AS moved (node_id)
              JOIN node_profiles np ON np.node_id = moved.node_id
             UNION ALL
            SELECT parted.profile_no, true, w.committed_at
              FROM w CROSS JOIN unnest(w.left_profiles) AS parted (profile_no)
             UNION ALL
            SELECT around.profile_no, true, w.committed_at
              FROM w CROSS JOIN unnest(w.profiles) AS around (profile_no)
             WHERE w.erased_nodes <> '{}') t
      JOIN profiles p ON p.profile_no = t.profile_no
     -- Who was erased from a shared device leaves a shadow that nobody is told of.
     WHERE NOT EXISTS (SELECT FROM privacy_tombstones)
        OR NOT EXISTS (SELECT FROM node_profiles np JOIN nodes n ON n.node_id = np.node_id
                        WHERE np.profile_no = p.profile_no AND n.variant = 'erased')
     GROUP BY p.profile_no, p.profile_id, p.version, p.joined_at),
traits_now AS (
    SELECT profile_no, jsonb_object_agg(name, digest) AS digests
      FROM (SELECT profile_no, name,
                   hashtextextended(
                       string_agg(part || '=' || value, E'\\x1f'
                                  ORDER BY at DESC, message_id COLLATE "C" DESC,
                                           source_number DESC, part), profile_no) AS digest
              FROM (SELECT DISTINCT ON (np.profile_no, t.name, t.part, t.value::text)
                           np.profile_no, t.name, t.part, t.value::text AS value, t.at,
                           t.message_id, t.source_number
                      FROM touched
                      JOIN node_profiles np ON np.profile_no = touched.profile_no
                      JOIN traits t
                        ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
                     ORDER BY np.profile_no, t.name, t.part, t.value::text, t.at DESC,
                              t.message_id COLLATE "C" DESC, t.source_number DESC) said
             GROUP BY profile_no, name) each_name
     GROUP BY profile_no),
purposes_now AS (
    SELECT profile_no, jsonb_object_agg(purpose, digest) AS digests
      FROM (SELECT profile_no, purpose,
                   hashtextextended(
                       string_agg(granted::text, ',' ORDER BY at DESC, message_id COLLATE "C" DESC,
                                                              source_number DESC)
                       || coalesce((max(at) > max(joined_at))::text, ''), profile_no) AS digest
              FROM (SELECT DISTINCT ON (np.profile_no, c.purpose, c.granted)
                           np.profile_no, c.purpose, c.granted, touched.joined_at, c.at,
                           c.message_id, c.source_number
                      FROM touched
                      JOIN node_profiles np ON np.profile_no = touched.profile_no
                      JOIN consents c
                        ON c.node_id = np.node_id AND c.at >= np.since AND c.at < np.until
                     ORDER BY np.profile_no, c.purpose, c.granted, c.at DESC,
                              c.message_id COLLATE "C" DESC, c.source_number DESC) agreed
             GROUP BY profile_no, purpose) each_purpose
     GROUP BY profile_no),
compared AS MATERIALIZED (
    SELECT p.*, coalesce(t.digests, '{}') AS traits_now, coalesce(c.digests, '{}') AS purposes_now,
           CASE WHEN coalesce(old.traits, '{}') = coalesce(t.digests, '{}') THEN '{}' ELSE ARRAY(
                SELECT name FROM jsonb_each(coalesce(t.digests, '{}')) n (name, digest)
                  FULL JOIN jsonb_each(coalesce(old.traits, '{}')) o (name, digest) USING (name)
                 WHERE n.digest IS DISTINCT FROM o.digest ORDER BY name COLLATE "C") END AS traits,
           CASE WHEN coalesce(old.purposes, '{}') = coalesce(c.digests, '{}') THEN '{}' ELSE ARRAY(
                SELECT name FROM jsonb_each(coalesce(c.digests, '{}')) n (name, digest)
                  FULL JOIN jsonb_each(coalesce(old.purposes, '{}')) o (name, digest) USING (name)
                 WHERE n.digest IS DISTINCT FROM o.digest ORDER BY name COLLATE "C") END AS purposes
      FROM touched p
      LEFT JOIN traits_now t ON t.profile_no = p.profile_no
      LEFT JOIN purposes_now c ON c.profile_no = p.profile_no
      LEFT JOIN profile_feed_told old ON old.profile_no = p.profile_no),
remembered AS (
    INSERT INTO profile_feed_told AS told (profile_no, traits, purposes)
    SELECT profile_no, traits_now, purposes_now FROM compared
     WHERE traits <> '{}' OR purposes <> '{}'
        ON CONFLICT (profile_no) DO UPDATE
       SET traits = excluded.traits, purposes = excluded.purposes),
forgotten AS (
    DELETE FROM profile_feed_told told
     USING (SELECT DISTINCT around.profile_no
              FROM w CROSS JOIN unnest(w.profiles) AS around (profile_no)
             WHERE w.moved_nodes <> '{}' OR w.erased_nodes <> '{}') around
     WHERE told.profile_no = around.profile_no
       AND NOT EXISTS (SELECT FROM profiles p WHERE p.profile_no = told.profile_no)),
rows AS (
    SELECT 0 AS part, h.seq, h.place, h.step, h.profile_id, h.at,
           CASE WHEN h.kind <> 'deleted' THEN coalesce(p.version, 1) END AS version,
           ARRAY[h.kind] AS kinds, h.other_id, '{}'::text[] AS traits, '{}'::text[] AS purposes
      FROM happened h
      LEFT JOIN profiles p
        ON p.profile_id = CASE WHEN h.kind = 'merged' THEN h.other_id ELSE h.profile_id END
     UNION ALL
    SELECT 1, 0, profile_no, 0, profile_id, at, version,
           array_remove(ARRAY[CASE WHEN is_moved THEN 'identifiers' END,
                              CASE WHEN traits <> '{}' THEN 'traits' END,
                              CASE WHEN purposes <> '{}' THEN 'consent' END], NULL),
           NULL, traits, purposes
      FROM compared WHERE is_moved OR traits <> '{}' OR purposes <> '{}'),
written AS (
    INSERT INTO profile_feed (change_no, profile_id, at, version, kinds, other_id, traits, purposes)
    SELECT %(change_no)s + row_number() OVER (ORDER BY part, seq, place, step), profile_id, at,
           version, kinds, other_id, traits, purposes
      FROM rows
    RETURNING change_no)
UPDATE profile_feed_head
   SET seq = %(until)s,
       change_no = coalesce((SELECT max(change_no) FROM written), %(change_no)s)
RETURNING change_no
"""

_FORGET_ERASED = """
DELETE FROM profile_feed f
 USING (SELECT DISTINCT gone FROM batches, unnest(erased_profiles) AS gone
         WHERE seq > %(after)s AND seq <= %(until)s) erased
 WHERE f.profile_id = erased.gone OR f.other_id = erased.gone
RETURNING f.change_no
"""


def go_on(conn: Driver) -> int | None:
    """Turn the batches that are new into changes; return how many changes, ``None`` when another

    is doing so. ``conn`` is in a transaction that sees one moment (repeatable read). Raises
    psycopg's ``SerializationFailure`` when another did so meanwhile.
    """
    head = conn.execute(_HEAD).fetchone()
    if head is None:
        return None
    after, change_no, until = head
    if until <= after:
        return 0
    window = {"after": after, "until": until, "change_no": change_no}
    # Of whoever was erased nothing is told but that; what was told before goes.
    conn.execute(_FORGET_ERASED, window)
    row = conn.execute(_GO_ON, window).fetchone()
    assert row is not None
    return int(row[0]) - int(change_no)


def catch_up(database: Database) -> int:
    """Go on until every batch that is committed by now has become changes; return how many.

    Waits for another who is doing so; gives up silently after some seconds.
    """
    for _ in range(_TRIES):
        try:
            with (
                database.engine.connect().execution_options(
                    isolation_level="REPEATABLE READ"
                ) as connection,
                connection.begin(),
            ):
                done = go_on(driver(connection))
        except (psycopg.errors.SerializationFailure, sa.exc.OperationalError) as error:
            if not isinstance(getattr(error, "orig", error), psycopg.errors.SerializationFailure):
                raise
            done = None
        if done is not None:
            return done
        time.sleep(_PAUSE_SECONDS)
    return 0


@dataclass(frozen=True, slots=True)
class FeedEnds:
    """The numbers of the newest change, and of the newest that retention dropped."""

    newest: int
    dropped: int


def read_ends(conn: Driver) -> FeedEnds:
    """Return how far changes go, both ways."""
    row = conn.execute("SELECT change_no, dropped_until FROM profile_feed_head").fetchone()
    assert row is not None
    return FeedEnds(*row)


_READ = """
SELECT change_no, profile_id, at, version, kinds, other_id, traits, purposes
  FROM profile_feed
 WHERE change_no >= %(since)s AND (%(kinds)s::text[] IS NULL OR kinds && %(kinds)s::text[])
 ORDER BY change_no LIMIT %(limit)s
"""


def read_feed(
    conn: Driver, *, since: int, limit: int, kinds: Collection[str] | None = None
) -> list[FeedRow]:
    """Return rows in order, from number ``since`` on, that hold any of ``kinds`` (None: all)."""
    rows = conn.execute(
        _READ,
        {"since": since, "limit": limit, "kinds": None if kinds is None else sorted(kinds)},
    )
    return [
        FeedRow(no, profile_id, at, version, tuple(told), other, tuple(traits), tuple(purposes))
        for no, profile_id, at, version, told, other, traits, purposes in rows
    ]


def drop_feed_before(database: Database, before: datetime) -> Iterator[int]:
    """Forget changes told before ``before``, piece by piece; give how many each time."""
    while True:
        with database.transaction() as connection:
            rows = (
                driver(connection)
                .execute(
                    """DELETE FROM profile_feed
                        WHERE change_no IN (SELECT change_no FROM profile_feed
                                             ORDER BY change_no LIMIT %s)
                          AND change_no < coalesce((SELECT change_no FROM profile_feed
                                                     WHERE at >= %s ORDER BY change_no LIMIT 1),
                                                   9223372036854775807)
                    RETURNING change_no""",
                    (_MOST_DROPPED, before),
                )
                .fetchall()
            )
            if rows:
                driver(connection).execute(
                    "UPDATE profile_feed_head SET dropped_until = greatest(dropped_until, %s)",
                    (max(row[0] for row in rows),),
                )
        yield len(rows)
        if len(rows) < _MOST_DROPPED:
            return
