"""Visits: a source's events of one person, up to half an hour apart. Computed from event times.

Nothing is stored of a session, so late events, merges and unmerges change them as they should. Who
reads a page of sessions pays for the times of a person's events, and for one look into the timeline
per session shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from cdp.profiles.profile_store import Source
from cdp.profiles.touches import Visit, describe_visit, read_visit
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

DEFAULT_MINUTES = 30
"""Without an event for longer, what comes next is another session."""

_SESSIONS = """
WITH gaps AS (
    SELECT number, make_interval(mins => coalesce((settings ->> 'session_minutes')::int,
                                                  %(minutes)s)) AS gap
      FROM sources),
seen AS (
    SELECT e.source_number, e.at, e.message_id, c.gap
      FROM node_profiles np
      JOIN events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
      JOIN gaps c ON c.number = e.source_number
     WHERE np.profile_no = %(person)s AND e.at <= %(at)s AND c.gap > interval '0'
    UNION ALL
    SELECT a.source_number, a.at, a.message_id, c.gap
      FROM unnest(%(archived_sources)s::int[], %(archived_times)s::timestamptz[],
                  %(archived_messages)s::text[]) AS a (source_number, at, message_id)
      JOIN gaps c ON c.number = a.source_number
     WHERE a.at <= %(at)s AND c.gap > interval '0'),
marked AS (
    SELECT source_number, at,
           coalesce(at - lag(at) OVER (PARTITION BY source_number ORDER BY at) > gap, true)
               AS begins
      FROM seen),
numbered AS (
    SELECT source_number, at, sum(begins::int) OVER (
               PARTITION BY source_number ORDER BY at ROWS UNBOUNDED PRECEDING) AS number
      FROM marked),
sessions AS (
    SELECT source_number, min(at) AS started_at, max(at) AS ended_at, count(*) AS events
      FROM numbered GROUP BY source_number, number)
SELECT started_at, ended_at, events, source_number, count(*) OVER () AS total,
       max(ended_at) OVER () AS last_ended_at
  FROM sessions
 ORDER BY started_at DESC, source_number DESC
"""
_PAGE = f"""
SELECT * FROM ({_SESSIONS}) AS all_sessions
 WHERE %(past_at)s::timestamptz IS NULL
    OR (started_at, source_number) < (%(past_at)s::timestamptz, %(past_source)s::int)
 LIMIT %(limit)s
"""
# The first event of a session that says where it took place.
_LANDINGS = """
SELECT s.place, e.at, e.message_id, e.type, e.context::text, e.properties::text
  FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[], %(sources)s::int[])
       WITH ORDINALITY AS s (started_at, ended_at, source_number, place)
 CROSS JOIN LATERAL (
       SELECT e.at, e.message_id, e.type, e.context, e.properties
         FROM node_profiles np
         JOIN events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
        WHERE np.profile_no = %(person)s AND e.source_number = s.source_number
          AND e.at >= s.started_at AND e.at <= s.ended_at
          AND (e.type = 'page' OR e.context -> 'page' IS NOT NULL
               OR e.context -> 'campaign' IS NOT NULL)
        ORDER BY e.at, e.message_id
        LIMIT 1) e
"""


class Archived(Protocol):
    """What an archive has of a person's visits."""

    def read_visits(self, conn: Driver, profile_no: int) -> list[tuple[Any, ...]]: ...

    def read_places(
        self, conn: Driver, profile_no: int, since: datetime, until: datetime
    ) -> list[tuple[Any, ...]]: ...


_NOTHING = Visit({}, None, None)

Key = tuple[datetime, int]
"""Where a session stands: its start and source number."""


class Session(NamedTuple):
    """One visit."""

    started_at: datetime
    ended_at: datetime
    events: int
    source_number: int
    landing: Visit

    @property
    def key(self) -> Key:
        return self.started_at, self.source_number


@dataclass(frozen=True, slots=True)
class Sessions:
    """A page of sessions, the newest first, and what all of them come to."""

    page: Sequence[Session]
    count: int
    last_ended_at: datetime | None


def read_sessions(
    connection: Driver,
    profile_no: int,
    at: datetime,
    *,
    limit: int,
    past: Key | None = None,
    archived: Archived | None = None,
) -> Sessions:
    """Return a person's sessions until ``at``, from past the key ``past``.

    A source's setting ``session_minutes`` says how long a silence ends a session; 0: it has none.
    Days that Postgres no longer holds come from ``archived``.
    """
    past_at, past_source = past or (None, None)
    kept = archived.read_visits(connection, profile_no) if archived is not None else []
    rows = connection.execute(
        _PAGE,
        {
            "person": profile_no,
            "at": at,
            "minutes": DEFAULT_MINUTES,
            "archived_sources": [number for number, _, _ in kept],
            "archived_times": [time for _, time, _ in kept],
            "archived_messages": [message_id for _, _, message_id in kept],
            "past_at": past_at,
            "past_source": past_source,
            "limit": limit,
        },
    ).fetchall()
    landings = _read_landings(connection, profile_no, rows, archived if kept else None)
    page = [
        Session(started_at, ended_at, events, number, landings.get(place, _NOTHING))
        for place, (started_at, ended_at, events, number, _, _) in enumerate(rows, start=1)
    ]
    return Sessions(page, rows[0][4] if rows else 0, rows[0][5] if rows else None)


def _read_landings(
    connection: Driver,
    profile_no: int,
    rows: Sequence[tuple[Any, ...]],
    archived: Archived | None,
) -> dict[int, Visit]:
    if not rows:
        return {}
    found = connection.execute(
        _LANDINGS,
        {
            "person": profile_no,
            "starts": [row[0] for row in rows],
            "ends": [row[1] for row in rows],
            "sources": [row[3] for row in rows],
        },
    )
    places = list(found)
    if archived is not None:
        places += _list_archived_places(connection, profile_no, rows, archived)
    # The first of each session.
    first = {row[0]: row for row in sorted(places, key=lambda row: row[:3], reverse=True)}
    return {
        place: read_visit(msgspec.json.decode(context), msgspec.json.decode(properties), call)
        for place, _, _, call, context, properties in first.values()
    }


def _list_archived_places(
    connection: Driver, profile_no: int, rows: Sequence[tuple[Any, ...]], archived: Archived
) -> list[tuple[Any, ...]]:
    since, until = min(row[0] for row in rows), max(row[1] for row in rows)
    found = []
    for number, at, message_id, call, context, properties in archived.read_places(
        connection, profile_no, since, until
    ):
        said = msgspec.json.decode(context)
        if call != "page" and said.get("page") is None and "campaign" not in said:
            continue
        found += [
            (place, at, message_id, call, context, properties)
            for place, (started_at, ended_at, _, source, _, _) in enumerate(rows, start=1)
            if source == number and started_at <= at <= ended_at
        ]
    return found


def show_session(session: Session, sources: Mapping[int, Source]) -> dict[str, Any]:
    """Return a session as JSON; ``channel`` and the campaign are those it began with."""
    described = describe_visit(session.landing)
    source = sources.get(session.source_number)
    utm = ("source", "medium", "campaign", "term", "content")
    seconds = (session.ended_at - session.started_at).total_seconds()
    return {
        "started_at": format_time(session.started_at),
        "ended_at": format_time(session.ended_at),
        "seconds": round(seconds),
        "events": session.events,
        "source": source.name if source else None,
        "source_id": source.source_id if source else None,
        "landing_page": described["url"],
        "referrer": described["referrer"],
        "referrer_domain": described["referrer_domain"],
        "utm": {name: described[name] for name in utm},
        "click_id": described["click_id"],
        "channel": described["channel"],
    }
