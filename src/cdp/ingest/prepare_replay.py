"""From the kept bytes of a refused line to the line that is judged again. Pure.

What its request said beside it is put into it, and it gets an id, so that a replay that happens
twice has its effect once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cdp.ingest.lenient import NotJson, add_flags, decode_leniently, encode
from cdp.ingest.rejected_store import RejectedRow

_OWN_TIMES = {"events": ("timestamp", "originalTimestamp")}
_RECORD_TIMES = ("updated_at",)
_NOTHING: tuple[object, ...] = (None, "")


def prepare_line(row: RejectedRow) -> bytes:
    """Return the line to be judged; the kept bytes themselves when they are no JSON object.

    A line with neither an id nor a time of its own gets the id ``rejected-<number>``. With a time,
    its id is made from its content, as always: then a copy that is sent again is a duplicate. An
    event that had an id from elsewhere, such as its row in a file, keeps it.
    """
    try:
        document, flags = decode_leniently(row.raw)
    except NotJson:
        return row.raw
    if not isinstance(document, dict):
        return row.raw
    changed = _share(document, row) | _set_type(document, row) | _identify(document, row)
    if not changed:
        return row.raw
    add_flags(document, flags)
    try:
        return encode(document)
    except RecursionError:
        return row.raw


def _share(document: dict[str, Any], row: RejectedRow) -> bool:
    shared: dict[str, Any] = msgspec.json.decode(row.shared) if row.shared else {}
    for name, values in shared.items():
        own = document.get(name)
        document[name] = {**values, **own} if isinstance(own, dict) else values
    return bool(shared)


def _set_type(document: dict[str, Any], row: RejectedRow) -> bool:
    if row.route_type is None or document.get("type") == row.route_type:
        return False
    document["type"] = row.route_type
    return True


def _identify(document: dict[str, Any], row: RejectedRow) -> bool:
    if document.get("messageId") not in _NOTHING:
        return False
    if row.kind == "events" and row.message_id is not None:
        document["messageId"] = row.message_id
        return True
    times = _OWN_TIMES.get(row.kind, _RECORD_TIMES)
    if any(document.get(name) not in _NOTHING for name in times):
        return False
    document["messageId"] = f"rejected-{row.number}"
    return True
