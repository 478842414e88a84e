"""Lines of the log that end as refused: by the door, or by the worker that cannot read them. Pure.

Every line that a record's headers count ends as stored, duplicate or rejected, so that a loss
shows in the accounting.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from cdp.ingest.event_time import parse_cached
from cdp.ingest.lenient import NotJson, decode_leniently
from cdp.log.format import Kind, LoggedLine, RejectedLine, read_requests
from cdp.log.port import Record
from cdp.model import RejectedEvent
from cdp.storage.outcomes_store import key_refused

Received = dict[tuple[str, datetime], int]
"""Lines by source id and time of receipt."""

UNPROCESSABLE = "unprocessable"
"""The code of what the door let in and the worker cannot store: a fault of the program."""

_LONGEST_NAME = 512

_decode_rejected = msgspec.json.Decoder(RejectedLine).decode


def add_received(record: Record, received: Received) -> bool:
    """Add the lines that the headers of ``record`` count, by source and time of receipt.

    Return whether every request in it says when it was received; the lines of others do not count.
    """
    source_id = record.headers.get("cdp-source", "")
    is_readable = True
    # Requests that travel together share few times.
    by_text: dict[str, int] = {}
    for _, received_at, _, lines in read_requests(record.headers):
        by_text[received_at] = by_text.get(received_at, 0) + lines
    for text, lines in by_text.items():
        time = parse_cached(text)
        if time is None:
            is_readable = False
        elif source_id:
            key = (source_id, time)
            received[key] = received.get(key, 0) + lines
    return is_readable


def read_rejected(record: Record, line: LoggedLine) -> RejectedEvent:
    """Return what the door refused. What cannot be read is refused as unprocessable."""
    try:
        refused = _decode_rejected(line.line)
    except (msgspec.DecodeError, ValueError):
        return refuse_unprocessable(record, "rejected", line, "unreadable: RejectedLine")
    return refuse(record, line, refused)


def refuse_unprocessable(
    record: Record, kind: Kind, line: LoggedLine, reason: str
) -> RejectedEvent:
    """Return ``line`` as refused because the program cannot process it."""
    refused = RejectedLine(UNPROCESSABLE, reason, line.line, _find_name(line.line, kind), kind=kind)
    return refuse(record, line, refused)


def refuse_unknown_source(record: Record, kind: Kind, line: LoggedLine) -> RejectedEvent:
    """Return ``line`` as refused because its source does not exist."""
    refused = RejectedLine(
        "unknown_source",
        "no source has this id; it was removed, or another installation wrote here",
        line.line,
        _find_name(line.line, kind),
        kind=kind,
    )
    return refuse(record, line, refused)


def refuse(record: Record, line: LoggedLine, refused: RejectedLine) -> RejectedEvent:
    """Return ``refused`` with what its request says of it, and the key that it always has."""
    received_at = parse_cached(line.received_at)
    assert received_at is not None
    place = f"{record.partition}/{line.ordinal}" if refused.index is None else str(refused.index)
    return RejectedEvent(
        line.source_id,
        refused.message_id,
        refused.code,
        refused.message,
        received_at,
        refused.raw,
        kind=refused.kind,
        place=refused.index,
        request_id=line.request_id,
        sent_at=line.sent_at,
        route_type=refused.route_type,
        shared=refused.shared,
        truncated=refused.truncated,
        key=key_refused(line.source_id, line.request_id, place, refused.raw),
    )


_NAMES = {"events": "messageId", "orders": "order_id", "accounts": "account_id"}


def _find_name(raw: bytes, kind: str) -> str | None:
    """Return the id that a line brings, if it can be found and Postgres can hold it."""
    try:
        document: Any = decode_leniently(raw)[0]
    except (NotJson, RecursionError):
        return None
    name = document.get(_NAMES.get(kind, "messageId")) if isinstance(document, dict) else None
    if not isinstance(name, str | int) or isinstance(name, bool):
        return None
    text = str(name).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text[:_LONGEST_NAME] or None
