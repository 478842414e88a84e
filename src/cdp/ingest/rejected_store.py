"""Refused events, kept with their reason and their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.access.masking import (
    MASK,
    mask_context,
    mask_identifier,
    mask_properties,
    mask_traits,
)
from cdp.ingest.lenient import NotJson, decode_leniently, encode
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

_IDS = {"userId": "user_id", "anonymousId": "anonymous_id", "previousId": "previous_id"}


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One refused event."""

    number: int
    source_id: str
    message_id: str | None
    code: str
    message: str
    received_at: datetime
    raw: bytes


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Which refused events are asked for; ``None`` means all. Times are ``[since, until)``."""

    source_id: str | None = None
    code: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def list_rejected(
    connection: Driver, wanted: RejectedFilter, *, limit: int, before: int | None = None
) -> list[RejectedRow]:
    """Return refused events, newest first, below the number ``before``."""
    rows = connection.execute(
        """SELECT rejected_id, source_id, message_id, code, message, received_at, raw
             FROM rejected
            WHERE (%(source)s::text IS NULL OR source_id = %(source)s)
              AND (%(code)s::text IS NULL OR code = %(code)s)
              AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
              AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
              AND (%(before)s::bigint IS NULL OR rejected_id < %(before)s)
            ORDER BY rejected_id DESC LIMIT %(limit)s""",
        {
            "source": wanted.source_id,
            "code": wanted.code,
            "since": wanted.since,
            "until": wanted.until,
            "before": before,
            "limit": limit,
        },
    ).fetchall()
    return [RejectedRow(*row) for row in rows]


def show_rejected(row: RejectedRow, *, sees_personal: bool) -> dict[str, Any]:
    """Return the JSON object that people see; personal values masked unless they may see them."""
    text = row.raw.decode("utf-8", "replace")
    return {
        "id": str(row.number),
        "source_id": row.source_id,
        "messageId": row.message_id,
        "code": row.code,
        "message": row.message,
        "received_at": format_time(row.received_at),
        "raw": text if sees_personal else mask_raw(row.raw),
    }


def mask_raw(raw: bytes) -> str:
    """Return an event's text without personal values; nothing of what cannot be read. Pure."""
    try:
        event, _ = decode_leniently(raw)
    except NotJson:
        return MASK
    if not isinstance(event, dict):
        return MASK
    kind = event.get("type")
    masked = mask_traits(event)
    for name in ("event", "name", "type"):
        if isinstance(event.get(name), str):
            masked[name] = event[name]
    for name, id_type in _IDS.items():
        if isinstance(event.get(name), str):
            masked[name] = mask_identifier(id_type, event[name])
    if isinstance(event.get("identifiers"), list):
        masked["identifiers"] = [_mask_named(one) for one in event["identifiers"]]
    if isinstance(event.get("traits"), dict):
        masked["traits"] = mask_traits(event["traits"])
    if isinstance(event.get("properties"), dict):
        masked["properties"] = mask_properties(event["properties"], call=str(kind))
    if isinstance(event.get("context"), dict):
        masked["context"] = mask_context(event["context"])
    return encode(masked).decode()


def _mask_named(item: Any) -> Any:
    """Mask one of an order's identifiers, ``{"type", "value"}``."""
    if not isinstance(item, dict) or not isinstance(item.get("value"), str):
        return MASK
    return {**mask_traits(item), "value": mask_identifier(str(item.get("type")), item["value"])}
