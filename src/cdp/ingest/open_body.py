"""Take a request's body apart as far as its events, without reading them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, Raw

from cdp.errors import BadRequest, TooLarge
from cdp.ingest.lenient import NotJson, TooDeep, decode_leniently, encode
from cdp.ingest.split import NoBatch, split_batch
from cdp.ingest.wire_event import (
    UNREADABLE,
    WireHead,
    WireTypedHead,
    decode_batch,
    decode_head,
    decode_key,
    decode_typed_head,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Head = WireHead | WireTypedHead


@dataclass(slots=True)
class Opened:
    """A request's body, taken apart as far as its events."""

    items: Sequence[bytes | Raw]
    write_key: str | None = None
    sent_at: str | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    """What the batch says for all its events: ``context``, ``integrations``."""
    shared_flags: frozenset[str] = frozenset()
    """What had to be changed in ``shared``."""
    heads: Sequence[Head | None] = ()
    """What strict decoding saw of each event; ``None`` where it refused."""
    is_plain: bool = False
    """Whether strict decoding took every event, and none has a raw newline in it."""


def open_single(body: bytes, *, wants_key: bool) -> Opened:
    """Open the body of a single-event route. Raises ``BadRequest`` when it is no JSON."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    key: str | None = None
    try:
        head: Head | None = decode_head(body)
        if wants_key:
            key = decode_key(body).write_key
    except UNREADABLE:
        head = None
        try:
            value, _ = decode_leniently(body)
        except TooDeep:
            value = None
        except NotJson as error:
            raise _no_json(error) from error
        key = _text(value.get("writeKey")) if isinstance(value, dict) else None
    return Opened([body], key, heads=[head])


def open_batch(body: bytes) -> Opened:
    """Open the body of a batch route.

    Raises ``BadRequest`` when it is no JSON, or holds no list of events named ``batch``.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        found = decode_batch(body)
    except UNREADABLE:
        opened = _open_leniently(body)
    else:
        opened = Opened(found.batch, found.write_key, found.sent_at)
        try:
            opened.heads = list(map(decode_typed_head, found.batch))
            opened.is_plain = b"\n" not in body
        except UNREADABLE:
            opened.heads = read_heads(found.batch)
        if found.context is not UNSET or found.integrations is not UNSET:
            _add_shared(opened, _without_batch(body))
    if not opened.items:
        raise BadRequest("empty_batch", "`batch` must be a list with at least one event")
    return opened


def require_room_for_shared(opened: Opened, limit: int) -> None:
    """Raise ``TooLarge`` when what the batch says for all, written into each, exceeds ``limit``.

    ``limit`` is in bytes: a context of 30 KB and 100,000 events of 30 bytes make one small body.
    """
    if opened.shared:
        try:
            size = len(encode(opened.shared)) * len(opened.items)
        except RecursionError as error:
            raise BadRequest("too_deep", "the batch's context is nested too deeply") from error
        if size > limit:
            raise TooLarge(
                "body_too_large",
                f"with the batch's context in each event the request has {size} bytes or more,"
                f" and may have {limit}; send smaller batches",
            )


def read_heads(items: Sequence[bytes | Raw]) -> Sequence[Head | None]:
    """Return what strict decoding sees of each event, type included; ``None`` where it refuses."""
    try:
        return list(map(decode_typed_head, items))
    except UNREADABLE:
        return [_read_head(item) for item in items]


def _read_head(item: bytes | Raw) -> Head | None:
    try:
        return decode_typed_head(item)
    except UNREADABLE:
        return None


def _open_leniently(body: bytes) -> Opened:
    try:
        value, _ = decode_leniently(body)
    except TooDeep:
        value = None
    except NotJson as error:
        raise _no_json(error) from error
    else:
        if not isinstance(value, dict) or not isinstance(value.get("batch"), list):
            raise BadRequest("no_batch", "the body must be an object with a list named `batch`")
    try:
        lines, rest = split_batch(body)
    except NoBatch as error:
        raise BadRequest("no_batch", "the body must be an object with a `batch`") from error
    opened = Opened(lines, heads=read_heads(lines))
    value = _add_shared(opened, rest)
    opened.write_key, opened.sent_at = _text(value.get("writeKey")), _text(value.get("sentAt"))
    return opened


def _without_batch(body: bytes) -> bytes:
    try:
        return split_batch(body)[1]
    except NoBatch:
        # The name is written with escapes.
        return body


def _add_shared(opened: Opened, rest: bytes) -> dict[str, Any]:
    """Read what a body says beside its batch, into ``opened``. Raises ``BadRequest``."""
    try:
        value, flags = decode_leniently(rest)
    except NotJson as error:
        raise _no_json(error) from error
    found: dict[str, Any] = value if isinstance(value, dict) else {}
    opened.shared = {
        name: found[name]
        for name in ("context", "integrations")
        if isinstance(found.get(name), dict) and found[name]
    }
    if opened.shared:
        opened.shared_flags = frozenset(flags)
    return found


def _no_json(error: Exception) -> BadRequest:
    return BadRequest("invalid_json", f"the body is not JSON: {error}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
