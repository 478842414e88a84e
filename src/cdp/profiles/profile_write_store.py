"""Write what events say of people: traits and consents as registers, events as the timeline.

Everything hangs on the event's home node, so a merge or a split never touches these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from cdp.model import Event
from cdp.storage.database import Driver

_encode = msgspec.json.Encoder().encode

PlacedEvent = tuple[Event, int | None]
"""An event and the node it hangs on; ``None`` for revenue without a person."""

_Stamp = tuple[datetime, str, int]
"""What decides between two values: event time, message id, source number."""

_UPSERT_TRAITS = """
INSERT INTO traits AS t (node_id, name, value, at, message_id, source_number)
SELECT * FROM unnest(%b::bigint[], %b::text[], %b::text[]::json[], %b::timestamptz[], %b::text[],
                     %b::int[])
    ON CONFLICT (node_id, name) DO UPDATE
   SET value = excluded.value, at = excluded.at, message_id = excluded.message_id,
       source_number = excluded.source_number
 WHERE (excluded.at, excluded.message_id, excluded.source_number)
       > (t.at, t.message_id, t.source_number)
RETURNING node_id
"""

UPSERT_CONSENTS = """
INSERT INTO consents AS c (node_id, purpose, granted, at, message_id, source_number)
SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bool[], %b::timestamptz[], %b::text[],
                     %b::int[])
    ON CONFLICT (node_id, purpose) DO UPDATE
   SET granted = excluded.granted, at = excluded.at, message_id = excluded.message_id,
       source_number = excluded.source_number
 WHERE (excluded.at, excluded.message_id, excluded.source_number)
       > (c.at, c.message_id, c.source_number)
RETURNING node_id
"""

_COPY_EVENTS = """
COPY events (batch_id, ordinal, node_id, source_number, message_id, type, name, at, received_at,
             original_at, properties, context, group_id) FROM STDIN
"""


def write_traits(connection: Driver, placed: Iterable[PlacedEvent]) -> set[int]:
    """Let each trait take the newest value said of its node; return the nodes that changed."""
    return _write_registers(
        connection,
        _UPSERT_TRAITS,
        (
            (node, name, value, event)
            for event, node in placed
            if node is not None and event.traits
            for name, value in event.traits.items()
        ),
        lambda value: _encode(value).decode(),
    )


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
    newest: dict[tuple[int, str], tuple[_Stamp, Any]] = {}
    for node, name, value, event in claims:
        stamp = (event.at, event.message_id, event.source.number)
        known = newest.get((node, name))
        if known is None or stamp > known[0]:
            newest[node, name] = (stamp, value)
    if not newest:
        return set()
    # Sorted, so that two workers lock shared rows in one order.
    rows = sorted(newest.items())
    parameters = (
        [node for (node, _), _ in rows],
        [name for (_, name), _ in rows],
        [encode(value) for _, (_, value) in rows],
        [stamp[0] for _, (stamp, _) in rows],
        [stamp[1] for _, (stamp, _) in rows],
        [stamp[2] for _, (stamp, _) in rows],
    )
    return {node for (node,) in connection.execute(statement, parameters)}


def write_events(connection: Driver, batch_id: int, placed: Sequence[PlacedEvent]) -> None:
    """Append the events to the timeline, in one COPY."""
    if not placed:
        return
    lines = [
        _copy_line(batch_id, ordinal, event, node) for ordinal, (event, node) in enumerate(placed)
    ]
    with connection.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
        copy.write(b"".join(lines))


def _copy_line(batch_id: int, ordinal: int, event: Event, node: int | None) -> bytes:
    return b"%d\t%d\t%b\t%d\t%b\t%b\t%b\t%b\t%b\t%b\t%b\t%b\t%b\n" % (
        batch_id,
        ordinal,
        _NULL if node is None else b"%d" % node,
        event.source.number,
        _escape(event.message_id.encode()),
        event.type.encode(),
        _copy_name(event.name),
        event.at.isoformat().encode(),
        _copy_time(event.received_at),
        _NULL if event.original_at is None else _escape(event.original_at.encode()),
        _escape(event.properties),
        _escape(event.context),
        _NULL if event.group_id is None else _escape(event.group_id.encode()),
    )


_NULL = b"\\N"


# Few names and times of receipt in a batch, each many times.
@lru_cache(maxsize=4096)
def _copy_name(text: str | None) -> bytes:
    return _NULL if text is None else _escape(text.encode())


@lru_cache(maxsize=256)
def _copy_time(time: datetime) -> bytes:
    return time.isoformat().encode()


def _escape(value: bytes) -> bytes:
    """Escape for COPY's text format. Most values need none, and finding that out is cheap."""
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b"\t" in value:
        value = value.replace(b"\t", b"\\t")
    if b"\n" in value:
        value = value.replace(b"\n", b"\\n")
    if b"\r" in value:
        value = value.replace(b"\r", b"\\r")
    return value
