"""A person's events in order of time, page by page; a page stays right while events arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Literal, Protocol

import msgspec

from cdp.profiles.said import Said
from cdp.storage.database import Driver

Order = Literal["asc", "desc"]
Key = tuple[datetime, int, str]
"""Where an event stands: event time, source number, message id."""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event as stored. ``event`` is the track name, ``page`` or ``screen``, or ``None``."""

    source_number: int
    message_id: str
    type: str
    event: str | None
    name: str | None
    at: datetime
    received_at: datetime
    original_at: str | None
    properties: dict[str, Any]
    context: dict[str, Any]
    group_id: str | None

    @property
    def key(self) -> Key:
        return self.at, self.source_number, self.message_id


class Archived(Protocol):
    """What an archive has of people, in rows like those of Postgres, each event once."""

    may_hold: str
    """A condition in SQL, with places for a person's number and for a time: whether something of

    the person, not before the time (null: of any), lies there and no longer in Postgres.
    """

    def read_page(
        self,
        conn: Driver,
        profile_no: int,
        known: Sequence[tuple[Any, ...]],
        *,
        limit: int,
        order: Order,
        event: str | None,
        since: datetime | None,
        until: datetime | None,
        past: Key | None,
    ) -> list[tuple[Any, ...]]: ...

    def read_said(self, conn: Driver, profile_no: int) -> Iterator[tuple[Any, ...]]: ...

    def read_visits(self, conn: Driver, profile_no: int) -> list[tuple[Any, ...]]: ...

    def read_places(
        self, conn: Driver, profile_no: int, since: datetime, until: datetime
    ) -> list[tuple[Any, ...]]: ...


# Message ids are in the order of their bytes, which is the same everywhere.
# A node's index on (node, time) gives its newest events without sorting the others, so a page
# costs its own length times the person's nodes.
_PAGE = """
SELECT e.source_number, e.message_id, e.type, e.name, e.at, e.received_at, e.original_at,
       e.properties::text, e.context::text, e.group_id
  FROM node_profiles np
 CROSS JOIN LATERAL (
       SELECT * FROM events e
        WHERE e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
          AND e.at >= coalesce(%(from)s::timestamptz, '-infinity')
          AND e.at < coalesce(%(to)s::timestamptz, 'infinity')
          AND (%(event)s::text IS NULL
               OR CASE WHEN e.type IN ('page', 'screen') THEN e.type
                       WHEN e.type = 'track' THEN e.name END = %(event)s::text)
          {past}
        ORDER BY e.at {order}, e.source_number {order}, e.message_id COLLATE "C" {order}
        LIMIT %(limit)s) e
 WHERE np.profile_no = %(person)s
 ORDER BY e.at {order}, e.source_number {order}, e.message_id COLLATE "C" {order}
 LIMIT %(limit)s
"""
_PAST = """
AND e.at {edge} %(at)s::timestamptz
AND (e.at, e.source_number, e.message_id COLLATE "C")
    {side} (%(at)s::timestamptz, %(source)s::int, %(message)s::text)
"""
_STATEMENTS = {
    ("asc", False): _PAGE.format(order="ASC", past=""),
    ("desc", False): _PAGE.format(order="DESC", past=""),
    ("asc", True): _PAGE.format(order="ASC", past=_PAST.format(edge=">=", side=">")),
    ("desc", True): _PAGE.format(order="DESC", past=_PAST.format(edge="<=", side="<")),
}

# The same page as it is shown (``profile_document.show_event``), each event as JSON, so that what
# was sent goes out as it came. Of a page's or screen's properties the name stands in front, unless
# they have one of their own.
NEWEST = r"""
SELECT n.place, n.at,
       CASE WHEN n.place = %(limit)s
            THEN json_build_array(n.at, n.source_number, n.message_id) END AS key,
       (SELECT row_to_json(r) FROM (
            SELECT n.message_id, coalesce(s.source_id, '') AS source_id,
                   coalesce(s.name, '') AS source, n.type,
                   CASE WHEN n.type = 'track' THEN n.name
                        WHEN n.type IN ('page', 'screen') THEN n.type END AS event,
                   to_char(n.at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "timestamp",
                   n.original_at AS original_timestamp,
                   to_char(n.received_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS received_at,
                   n.group_id,
                   CASE WHEN n.type NOT IN ('page', 'screen') OR n.name IS NULL
                             OR n.properties -> 'name' IS NOT NULL THEN n.properties
                        WHEN btrim(n.properties::text, E' \t\n\r{{}}') = ''
                        THEN json_build_object('name', n.name)
                        ELSE ('{{"name":' || to_json(n.name)::text || ','
                              || substr(ltrim(n.properties::text, E' \t\n\r'), 2))::json
                   END AS properties,
                   n.context) AS r) AS shown
  FROM (SELECT e.*, row_number() OVER (ORDER BY e.at DESC, e.source_number DESC,
                                                e.message_id COLLATE "C" DESC) AS place
          FROM node_profiles np
         CROSS JOIN LATERAL (
               SELECT * FROM events e
                WHERE e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
                ORDER BY e.at DESC, e.source_number DESC, e.message_id COLLATE "C" DESC
                LIMIT %(limit)s + 1) e
         WHERE np.profile_no = {person}
         ORDER BY place LIMIT %(limit)s + 1) AS n
  LEFT JOIN sources s ON s.number = n.source_number
"""
"""With a place for the person's number."""


def read_timeline(
    connection: Driver,
    profile_no: int,
    *,
    limit: int,
    order: Order = "desc",
    event: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    past: Key | None = None,
    archived: Archived | None = None,
) -> list[TimelineEvent]:
    """Return a person's events with ``since`` <= time < ``until``, from past the key ``past``.

    ``event`` is a track name, or ``page`` or ``screen`` for those calls. Days that Postgres no
    longer holds come from ``archived``.
    """
    at, source, message = past or (None, None, None)
    rows = connection.execute(
        _STATEMENTS[order, past is not None],
        {
            "person": profile_no,
            "limit": limit,
            "event": event,
            "from": since,
            "to": until,
            "at": at,
            "source": source,
            "message": message,
        },
    ).fetchall()
    if archived is not None:
        rows = archived.read_page(
            connection,
            profile_no,
            rows,
            limit=limit,
            order=order,
            event=event,
            since=since,
            until=until,
            past=past,
        )
    return [read_row(row) for row in rows]


# Only what can have said something of the person travels.
_SAID = """
SELECT e.node_id, e.type, e.at, e.message_id, e.source_number,
       CASE e.type WHEN 'identify' THEN e.properties::text ELSE '{}' END, e.context::text
  FROM node_profiles np
  JOIN events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
 WHERE np.profile_no = %(person)s
   AND (e.type = 'identify' OR e.context -> 'traits' IS NOT NULL
        OR e.context -> 'consent' IS NOT NULL OR e.context -> 'consentManagement' IS NOT NULL)
"""


def read_said(connection: Driver, profile_no: int, archived: Archived | None = None) -> list[Said]:
    """Return a person's events that may have said something of them, in no order."""
    rows: Iterable[tuple[Any, ...]] = connection.execute(_SAID, {"person": profile_no})
    if archived is not None:
        rows = chain(rows, archived.read_said(connection, profile_no))
    return [
        Said(
            node_id,
            kind,
            at,
            message_id,
            number,
            msgspec.json.decode(properties),
            msgspec.json.decode(context),
        )
        for node_id, kind, at, message_id, number, properties, context in rows
    ]


def read_row(row: tuple[Any, ...]) -> TimelineEvent:
    """Return an event from the columns that a page of the timeline is read by."""
    number, message_id, kind, name, at, received_at, original_at, properties, context, group = row
    return TimelineEvent(
        source_number=number,
        message_id=message_id,
        type=kind,
        event=name if kind == "track" else kind if kind in ("page", "screen") else None,
        name=name,
        at=at,
        received_at=received_at,
        original_at=original_at,
        properties=msgspec.json.decode(properties),
        context=msgspec.json.decode(context),
        group_id=group,
    )
