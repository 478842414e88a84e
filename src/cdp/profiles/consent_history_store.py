"""Keep each change of mind, and what it is proved by; read the history of a person's consent.

The registers say what counts now and the timeline what was said, as long as events are kept. What
is kept here outlives the events: whoever asked people for consent has to show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from cdp.model import DEFAULT_CONSENT_AT, Event
from cdp.profiles.consent import Statement
from cdp.profiles.profile_write_store import PlacedEvent
from cdp.profiles.said import list_statements
from cdp.profiles.timeline_store import Archived, read_said
from cdp.storage.database import Driver

CONSENT_EVENT = "Consent Updated"
"""The event by which a consent is stated explicitly, with evidence."""

_encode = msgspec.json.Encoder().encode

# What the register says already, as the newest, is a repetition.
_KEEP = """
INSERT INTO consent_statements (node_id, purpose, at, message_id, source_number, granted, evidence)
SELECT s.node_id, s.purpose, s.at, s.message_id, s.source_number, s.granted, s.evidence
  FROM unnest(%b::bigint[], %b::text[], %b::timestamptz[], %b::text[], %b::int[], %b::bool[],
              %b::text[]::json[])
       AS s (node_id, purpose, at, message_id, source_number, granted, evidence)
 WHERE s.evidence IS NOT NULL
    OR NOT EXISTS (SELECT FROM consents c
                    WHERE c.node_id = s.node_id AND c.purpose = s.purpose
                      AND c.granted = s.granted AND c.at <= s.at AND c.at > %b)
    ON CONFLICT DO NOTHING
"""
_KEPT = """
SELECT c.purpose, c.granted, c.at, c.message_id, c.source_number, c.node_id, c.evidence::text
  FROM node_profiles np
  JOIN consent_statements c ON c.node_id = np.node_id AND c.at >= np.since AND c.at < np.until
 WHERE np.profile_no = %s
"""


def keep_changes(connection: Driver, placed: Iterable[PlacedEvent]) -> None:
    """Keep the statements that change anything or have evidence; before the registers are written.

    A statement that arrives late is kept like any other: neither order nor repetition matters.
    """
    said = [
        Statement(
            purpose,
            granted,
            event.at,
            event.message_id,
            event.source.number,
            node,
            read_evidence(event),
        )
        for event, node in placed
        if node is not None and event.consents
        for purpose, granted in event.consents.items()
    ]
    rows = list_changes(said)
    if not rows:
        return
    connection.execute(
        _KEEP,
        (
            [one.node_id for one in rows],
            [one.purpose for one in rows],
            [one.at for one in rows],
            [one.message_id for one in rows],
            [one.source_number for one in rows],
            [one.granted for one in rows],
            [None if one.evidence is None else _encode(one.evidence).decode() for one in rows],
            DEFAULT_CONSENT_AT,
        ),
    )


def list_changes(said: Iterable[Statement]) -> list[Statement]:
    """Return the statements that differ from the one before, per node and name, or have evidence.

    Pure. Sorted by node, name and stamp.
    """
    changes: list[Statement] = []
    last: dict[tuple[int, str], bool] = {}
    for one in sorted(said, key=lambda each: (each.node_id, each.purpose, each.weight)):
        key = one.node_id, one.purpose
        if one.evidence is not None or last.get(key) is not one.granted:
            changes.append(one)
        last[key] = one.granted
    return changes


def read_evidence(event: Event) -> Mapping[str, Any] | None:
    """Return what an explicit statement says of its own origin and proof; ``None``: nothing."""
    if event.name != CONSENT_EVENT or event.type != "track":
        return None
    properties = msgspec.json.decode(event.properties)
    given = {name: properties.get(name) for name in ("source", "evidence")}
    return {name: value for name, value in given.items() if value is not None}


def read_statements(
    connection: Driver, profile_no: int, archived: Archived | None = None
) -> list[Statement]:
    """Return all that is known to have been stated of a person, some of it more than once.

    Registers are left out: who reads a person has them. From what was kept, with evidence, and from
    the timeline.
    """
    said = list_statements(read_said(connection, profile_no, archived))
    return [*read_kept(connection, profile_no), *said]


def read_kept(connection: Driver, profile_no: int) -> list[Statement]:
    """Return the statements of a person that are kept whatever becomes of their events."""
    return [_read_kept(*row) for row in connection.execute(_KEPT, (profile_no,))]


def _read_kept(
    purpose: str,
    granted: bool,
    at: datetime,
    message_id: str,
    source_number: int,
    node_id: int,
    evidence: str | None,
) -> Statement:
    proof = None if evidence is None else msgspec.json.decode(evidence)
    return Statement(purpose, granted, at, message_id, source_number, node_id, proof)
