"""Take a request's body apart as far as its events, without reading them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, Raw

from cdp.errors import BadRequest
from cdp.ingest.lenient import NotJson, TooDeep, decode_leniently
from cdp.ingest.split import NoBatch, split_batch
from cdp.ingest.wire_event import UNREADABLE, WireHead, decode_batch, decode_head, decode_key

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Opened:
    """A request's body, taken apart as far as its events."""

    items: Sequence[bytes | Raw]
    write_key: str | None = None
    sent_at: str | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    """What the batch says for all its events: ``context``, ``integrations``."""
    heads: Sequence[WireHead | None] = ()
    """What strict decoding saw of each event; ``None`` where it refused."""


def open_single(body: bytes, *, wants_key: bool) -> Opened:
    """Open the body of a single-event route. Raises ``BadRequest`` when it is no JSON."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    key: str | None = None
    try:
        head: WireHead | None = decode_head(body)
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
        shared = {}
        if found.context is not UNSET or found.integrations is not UNSET:
            shared = _read_shared(decode_leniently(split_batch(body)[1])[0])
        items = list(map(bytes, found.batch))
        opened = Opened(items, found.write_key, found.sent_at, shared, read_heads(items))
    if not opened.items:
        raise BadRequest("empty_batch", "`batch` must be a list with at least one event")
    return opened


def read_heads(items: Sequence[bytes]) -> Sequence[WireHead | None]:
    """Return what strict decoding sees of each event; ``None`` where it refuses."""
    try:
        return list(map(decode_head, items))
    except UNREADABLE:
        return [_read_head(item) for item in items]


def _read_head(item: bytes) -> WireHead | None:
    try:
        return decode_head(item)
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
        if value is None:
            value, _ = decode_leniently(rest)
    except NoBatch as error:
        raise BadRequest("no_batch", "the body must be an object with a `batch`") from error
    except NotJson as error:
        raise _no_json(error) from error
    key, sent_at = _text(value.get("writeKey")), _text(value.get("sentAt"))
    return Opened(lines, key, sent_at, _read_shared(value), read_heads(lines))


def _read_shared(value: Any) -> dict[str, Any]:
    return {
        name: value[name]
        for name in ("context", "integrations")
        if isinstance(value, dict) and isinstance(value.get(name), dict) and value[name]
    }


def _no_json(error: Exception) -> BadRequest:
    return BadRequest("invalid_json", f"the body is not JSON: {error}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
