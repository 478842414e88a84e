"""Write what events say of people: traits and consents as registers, events as the timeline.

Everything hangs on the event's home node, so a merge or a split never touches these rows. Of a node
whose time is cut, a shared device's, there is a register for each span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from cdp.model import Event
from cdp.profiles.event_rows import COLUMNS, pack_rows
from cdp.profiles.trait_names_store import note_traits, refuse_surplus
from cdp.storage.database import Driver
from cdp.storage.registers_store import find_cuts
from cdp.trait_parts import ONCE, list_parts, outlives

_encode = msgspec.json.Encoder().encode

PlacedEvent = tuple[Event, int | None]
"""An event and the node it hangs on; ``None`` for revenue without a person."""

_Stamp = tuple[datetime, str, int]
"""What decides between two values: event time, message id, source number."""

# Of what is set once the oldest stays, of everything else the newest; each source has its own.
_UPSERT_TRAITS = f"""
INSERT INTO traits AS t (node_id, name, part, source_number, since, value, at, message_id)
SELECT node_id, name, part, source_number, coalesce(since, '-infinity'), value, at, message_id
  FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::int[], %b::timestamptz[],
              %b::text[]::json[], %b::timestamptz[], %b::text[])
       AS s (node_id, name, part, source_number, since, value, at, message_id)
    ON CONFLICT (node_id, name, part, source_number, since) DO UPDATE
   SET value = excluded.value, at = excluded.at, message_id = excluded.message_id
 WHERE CASE WHEN t.part = '{ONCE}' THEN (excluded.at, excluded.message_id) < (t.at, t.message_id)
            ELSE (excluded.at, excluded.message_id) > (t.at, t.message_id) END
RETURNING node_id, name, part, t.xmax = 0
"""

UPSERT_CONSENTS = """
INSERT INTO consents AS c (node_id, purpose, since, granted, at, message_id, source_number)
SELECT node_id, purpose, coalesce(since, '-infinity'), granted, at, message_id, source_number
  FROM unnest(%b::bigint[], %b::text[], %b::timestamptz[], %b::bool[], %b::timestamptz[],
              %b::text[], %b::int[])
       AS s (node_id, purpose, since, granted, at, message_id, source_number)
    ON CONFLICT (node_id, purpose, since) DO UPDATE
   SET granted = excluded.granted, at = excluded.at, message_id = excluded.message_id,
       source_number = excluded.source_number
 WHERE (excluded.at, excluded.message_id, excluded.source_number)
       > (c.at, c.message_id, c.source_number)
RETURNING node_id
"""

_TraitKey = tuple[int, str, str, int, datetime | None]
"""Node, name, part, source, beginning of the span."""

_COPY_EVENTS = f"COPY events ({COLUMNS}) FROM STDIN (FORMAT binary)"


def write_traits(connection: Driver, placed: Iterable[PlacedEvent]) -> set[int]:
    """Keep each part of what was said of the traits of nodes; return the nodes that changed."""
    said = [(node, event) for event, node in placed if node is not None and event.traits]
    if not said:
        return set()
    cuts = find_cuts(connection, {node for node, _ in said})
    kept: dict[_TraitKey, tuple[tuple[datetime, str], Any]] = {}
    for node, event in said:
        since = cuts.find_slot(node, event.at)
        number, stamp = event.source.number, (event.at, event.message_id)
        for name, value in event.traits.items():
            # Nearly all that is said is of one part.
            parts = list_parts(value) if type(value) is dict else (("", value),)
            for part, patch in parts:
                key = node, name, part, number, since
                known = kept.get(key)
                if known is None or outlives(part, stamp, known[0]):
                    kept[key] = stamp, patch
    if not kept:
        return set()
    note_traits(connection, (event for _, event in said))
    return _upsert_traits(connection, kept)


def _upsert_traits(
    connection: Driver, kept: Mapping[_TraitKey, tuple[tuple[datetime, str], Any]]
) -> set[int]:
    # Sorted, so that two workers lock shared rows in one order.
    rows = sorted(kept.items(), key=_place_trait)
    columns = zip(
        *((*key, _encode(patch).decode(), at, mid) for key, ((at, mid), patch) in rows), strict=True
    )
    changed = connection.execute(_UPSERT_TRAITS, [list(column) for column in columns]).fetchall()
    refuse_surplus(connection, [tuple(key) for *key, is_new in changed if is_new])
    return {row[0] for row in changed}


def _place_trait(row: tuple[_TraitKey, object]) -> tuple[int, str, str, int]:
    return row[0][:4]


def write_consents(connection: Driver, placed: Iterable[PlacedEvent]) -> set[int]:
    """Let each purpose take the newest statement of its node; return the nodes that changed."""
    return _write_registers(
        connection,
        UPSERT_CONSENTS,
        (
            (node, purpose, granted, event)
            for event, node in placed
            if node is not None and event.consents
            for purpose, granted in event.consents.items()
        ),
        bool,
    )


def _write_registers(
    connection: Driver,
    statement: str,
    claims: Iterable[tuple[int, str, Any, Event]],
    encode: Callable[[Any], Any],
) -> set[int]:
    said = list(claims)
    if not said:
        return set()
    cuts = find_cuts(connection, {node for node, _, _, _ in said})
    newest: dict[tuple[int, str, datetime | None], tuple[_Stamp, Any]] = {}
    for node, name, value, event in said:
        stamp = (event.at, event.message_id, event.source.number)
        key = node, name, cuts.find_slot(node, event.at)
        known = newest.get(key)
        if known is None or stamp > known[0]:
            newest[key] = (stamp, value)
    # Sorted, so that two workers lock shared rows in one order; the slots of a node among each
    # other have none, and need none: who writes a node holds its row.
    rows = sorted(newest.items(), key=_place)
    parameters = (
        [node for (node, _, _), _ in rows],
        [name for (_, name, _), _ in rows],
        [since for (_, _, since), _ in rows],
        [encode(value) for _, (_, value) in rows],
        [stamp[0] for _, (stamp, _) in rows],
        [stamp[1] for _, (stamp, _) in rows],
        [stamp[2] for _, (stamp, _) in rows],
    )
    return {node for (node,) in connection.execute(statement, parameters)}


def _place(row: tuple[tuple[int, str, datetime | None], object]) -> tuple[int, str]:
    (node, name, _), _ = row
    return node, name


def write_events(
    connection: Driver,
    batch_id: int,
    placed: Sequence[PlacedEvent],
    link_ids: Sequence[int | None],
) -> None:
    """Append the events to the timeline, in one COPY, each with its link."""
    if not placed:
        return
    with connection.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
        copy.write(pack_rows(batch_id, placed, link_ids))
