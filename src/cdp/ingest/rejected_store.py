"""Refused events, kept with their reason and their bytes."""

from __future__ import annotations

from collections.abc import Sequence
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
from cdp.errors import NotFound
from cdp.ingest.lenient import NotJson, decode_leniently, encode
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

_IDS = {"userId": "user_id", "anonymousId": "anonymous_id", "previousId": "previous_id"}


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One refused event or record."""

    number: int
    source_id: str
    message_id: str | None
    code: str
    message: str
    received_at: datetime
    raw: bytes
    kind: str
    """What it would have been: events, orders, …"""
    place: int | None
    """Its place in the request, or its row in a file."""
    request_id: str | None
    sent_at: str | None
    route_type: str | None
    shared: bytes | None
    truncated: bool
    """Whether ``raw`` is only the beginning, so that it cannot be replayed."""
    replayed_at: datetime | None


_COLUMNS = """rejected_id, source_id, message_id, code, message, received_at, raw, kind, place,
              request_id, sent_at, route_type, shared, truncated, replayed_at"""

_WANTED = """(%(source)s::text IS NULL OR source_id = %(source)s)
         AND (%(code)s::text IS NULL OR code = %(code)s)
         AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
         AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
         AND (%(ids)s::bigint[] IS NULL OR rejected_id = ANY(%(ids)s))
         AND (%(replayed)s::boolean IS NULL OR (replayed_at IS NOT NULL) = %(replayed)s)"""


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Which refused events are asked for; ``None`` means all. Times are ``[since, until)``."""

    source_id: str | None = None
    code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: Sequence[int] | None = None
    replayed: bool | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the filter means in SQL."""
        return {
            "source": self.source_id,
            "code": self.code,
            "since": self.since,
            "until": self.until,
            "ids": None if self.ids is None else list(self.ids),
            "replayed": self.replayed,
        }


def list_rejected(
    connection: Driver, wanted: RejectedFilter, *, limit: int, before: int | None = None
) -> list[RejectedRow]:
    """Return refused events, newest first, below the number ``before``."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM rejected
            WHERE {_WANTED} AND (%(before)s::bigint IS NULL OR rejected_id < %(before)s)
            ORDER BY rejected_id DESC LIMIT %(limit)s""",
        {**wanted.parameters, "before": before, "limit": limit},
    ).fetchall()
    return [RejectedRow(*row) for row in rows]


def find_rejected(connection: Driver, number: int) -> RejectedRow:
    """Return one refused event. Raises ``NotFound``."""
    rows = list_rejected(connection, RejectedFilter(ids=[number]), limit=1)
    if not rows:
        raise NotFound("rejected_not_found", "no refused event has this id; it may be too old")
    return rows[0]


def count_rejected(connection: Driver, wanted: RejectedFilter) -> list[dict[str, Any]]:
    """Return how many were refused, by source and reason, most first."""
    rows = connection.execute(
        f"""SELECT source_id, code, count(*), count(replayed_at), min(received_at),
                   max(received_at)
              FROM rejected WHERE {_WANTED}
             GROUP BY source_id, code ORDER BY count(*) DESC, source_id, code LIMIT 1000""",
        wanted.parameters,
    ).fetchall()
    return [
        {
            "source_id": source_id,
            "code": code,
            "count": count,
            "replayed": replayed,
            "first_received_at": format_time(first),
            "last_received_at": format_time(last),
        }
        for source_id, code, count, replayed, first, last in rows
    ]


def read_newest(connection: Driver) -> int:
    """Return the number of the newest refused event; 0 when there is none."""
    row = connection.execute("SELECT coalesce(max(rejected_id), 0) FROM rejected").fetchone()
    assert row is not None
    return int(row[0])


def lock_rejected(
    connection: Driver,
    wanted: RejectedFilter,
    *,
    after: int,
    until: int,
    limit: int,
    max_bytes: int,
) -> list[RejectedRow]:
    """Return refused events in ``(after, until]``, oldest first, and hold them to the end of the

    transaction: at most ``limit`` of them and about ``max_bytes``, but always one. Waits for
    whoever else holds them, and then sees what they did.
    """
    chosen = connection.execute(
        f"""SELECT rejected_id
              FROM (SELECT rejected_id, octet_length(raw) AS size,
                           sum(octet_length(raw)) OVER (ORDER BY rejected_id) AS total
                      FROM (SELECT rejected_id, raw FROM rejected
                             WHERE {_WANTED} AND rejected_id > %(after)s
                               AND rejected_id <= %(last)s
                             ORDER BY rejected_id LIMIT %(limit)s) AS newest) AS sized
             WHERE total - size < %(max_bytes)s""",
        {
            **wanted.parameters,
            "after": after,
            "last": until,
            "limit": limit,
            "max_bytes": max_bytes,
        },
    ).fetchall()
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM rejected WHERE rejected_id = ANY(%s)
             ORDER BY rejected_id FOR UPDATE""",
        ([number for (number,) in chosen],),
    ).fetchall()
    return [RejectedRow(*row) for row in rows]


def mark_replayed(connection: Driver, numbers: Sequence[int]) -> None:
    """Write down that refused events went to the log again."""
    connection.execute(
        "UPDATE rejected SET replayed_at = now() WHERE rejected_id = ANY(%s)", (list(numbers),)
    )


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
        "kind": row.kind,
        "place": row.place,
        "request_id": row.request_id,
        "truncated": row.truncated,
        "status": "open" if row.replayed_at is None else "replayed",
        "replayed_at": None if row.replayed_at is None else format_time(row.replayed_at),
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
    if isinstance(event.get("members"), list):
        masked["members"] = [_mask_member(one) for one in event["members"]]
    if isinstance(event.get("traits"), dict):
        masked["traits"] = mask_traits(event["traits"])
    if isinstance(event.get("properties"), dict):
        masked["properties"] = mask_properties(event["properties"], call=str(kind))
    if isinstance(event.get("context"), dict):
        masked["context"] = mask_context(event["context"])
    return encode(masked).decode()


def _mask_named(item: Any) -> Any:
    """Mask one of a record's identifiers, ``{"type", "value"}``."""
    if not isinstance(item, dict) or not isinstance(item.get("value"), str):
        return MASK
    return {**mask_traits(item), "value": mask_identifier(str(item.get("type")), item["value"])}


def _mask_member(item: Any) -> Any:
    """Mask who a member of an account is, ``{"identifier", "role"}``."""
    if not isinstance(item, dict):
        return MASK
    return {**mask_traits(item), "identifier": _mask_named(item.get("identifier"))}
