"""Keep what events say of service beside the timeline, and read it of a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from cdp.model import Event
from cdp.service.fold import Told
from cdp.service.read_event import SERVICE_EVENTS, ServiceSaid, read_service
from cdp.storage.database import Driver

MOST_EVENTS = 20_000
"""Of one person that are looked at: the newest."""

_WRITE = """
INSERT INTO service_events (node_id, at, source_number, message_id, name, kind, record_id, is_open,
                            nps, properties)
SELECT node_id, at, source_number, message_id, name, kind, record_id, is_open, nps,
       properties::json
  FROM unnest(%b::bigint[], %b::timestamptz[], %b::int[], %b::text[], %b::text[], %b::text[],
              %b::text[], %b::bool[], %b::smallint[], %b::text[])
       AS t (node_id, at, source_number, message_id, name, kind, record_id, is_open, nps,
             properties)
    ON CONFLICT DO NOTHING
"""
_READ = """
SELECT e.name, e.at, e.message_id, s.name, e.properties::text
  FROM (SELECT e.* FROM node_profiles np
          JOIN service_events e
            ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
         WHERE np.profile_no = %(person)s AND e.at <= %(now)s
         ORDER BY e.at DESC, e.message_id DESC, e.source_number DESC
         LIMIT %(most)s) e
  LEFT JOIN sources s ON s.number = e.source_number
 ORDER BY e.at, e.message_id, e.source_number
"""


class PlacedService(NamedTuple):
    """A service event with its node and what it says."""

    event: Event
    node_id: int
    said: ServiceSaid


def write_service(connection: Driver, placed: Sequence[tuple[Event, int | None]]) -> None:
    """Keep those of ``placed`` that are of service; the others cost a look at their name."""
    found = [
        PlacedService(event, node, said)
        for event, node in placed
        if event.name in SERVICE_EVENTS
        and event.type == "track"
        and node is not None
        and (said := _read(event)) is not None
    ]
    if not found:
        return
    connection.execute(
        _WRITE,
        (
            [one.node_id for one in found],
            [one.event.at for one in found],
            [one.event.source.number for one in found],
            [one.event.message_id for one in found],
            [one.event.name for one in found],
            [one.said.kind for one in found],
            [one.said.record_id for one in found],
            [one.said.is_open for one in found],
            [one.said.nps for one in found],
            [one.event.properties.decode() for one in found],
        ),
    )


def _read(event: Event) -> ServiceSaid | None:
    return read_service(event.name or "", msgspec.json.decode(event.properties), event.message_id)


def read_service_events(connection: Driver, profile_no: int, now: datetime) -> list[Told]:
    """Return what was told of a person's service until ``now``, oldest first."""
    rows = connection.execute(
        _READ, {"person": profile_no, "now": now, "most": MOST_EVENTS}
    ).fetchall()
    return [
        Told(name, at, message_id, source, msgspec.json.decode(text))
        for name, at, message_id, source, text in rows
    ]
