"""Events as rows of COPY's binary format: nothing to escape, no times to read. Pure.

Of each field its length and its bytes, numbers in network order, a length of -1 for null; a head
first, at last a count of -1. Format: PostgreSQL manual, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from cdp.model import EVENT_TYPES, Event

COLUMNS = (
    "batch_id, ordinal, node_id, source_number, at, received_at, type, name, message_id,"
    " link_id, original_at, group_id, properties, context"
)
"""In the order of the fields."""

HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TAIL = struct.pack("!h", -1)

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NULL = struct.pack("!i", -1)
# The fields of fixed width: 14 fields; batch, ordinal, node, source, time of the event, of receipt.
_pack_numbers = struct.Struct("!hiqiiiqiiiqiq").pack
_pack_without_node = struct.Struct("!hiqiiiiiiqiq").pack
_pack_length = struct.Struct("!i").pack
_pack_number = struct.Struct("!iq").pack


def _pack_text(value: bytes) -> bytes:
    return _pack_length(len(value)) + value


_TYPES: Mapping[str, bytes] = {name: _pack_text(name.encode()) for name in EVENT_TYPES}


def pack_rows(
    batch_id: int, placed: Iterable[tuple[Event, int | None]], link_ids: Iterable[int | None]
) -> bytes:
    """Return the rows of events, each with its node and link, numbered from 0; head and tail."""
    rows = [
        _pack_row(batch_id, ordinal, *one, link_id)
        for ordinal, (one, link_id) in enumerate(zip(placed, link_ids, strict=True))
    ]
    return b"".join((HEAD, *rows, TAIL))


def _pack_row(
    batch_id: int, ordinal: int, event: Event, node: int | None, link_id: int | None
) -> bytes:
    since = event.at - _EPOCH
    at = since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
    source, received = event.source.number, _count(event.received_at)
    if node is None:
        numbers = _pack_without_node(
            14, 8, batch_id, 4, ordinal, -1, 4, source, 8, at, 8, received
        )  # fmt: skip
    else:
        numbers = _pack_numbers(
            14, 8, batch_id, 4, ordinal, 8, node, 4, source, 8, at, 8, received
        )  # fmt: skip
    message_id = event.message_id.encode()
    original_at, group_id = event.original_at, event.group_id
    properties, context = event.properties, event.context
    return b"".join(
        (
            numbers,
            _TYPES[event.type],
            _pack_name(event.name),
            _pack_length(len(message_id)),
            message_id,
            _NULL if link_id is None else _pack_number(8, link_id),
            _NULL if original_at is None else _pack_text(original_at.encode()),
            _NULL if group_id is None else _pack_text(group_id.encode()),
            _pack_length(len(properties)),
            properties,
            _pack_length(len(context)),
            context,
        )
    )


# Few names and times of receipt in a batch, each many times.
@lru_cache(maxsize=4096)
def _pack_name(text: str | None) -> bytes:
    return _NULL if text is None else _pack_text(text.encode())


@lru_cache(maxsize=256)
def _count(time: datetime) -> int:
    since = time - _EPOCH
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
