"""An event in the address of an image, for e-mails and pages without scripts. Pure.

Two forms: ``?data=`` with the whole event as base64 JSON (Segment), or one parameter per member
(RudderStack), dotted names reaching into objects: ``?event=Opened&userId=1&properties.mail=7``.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qsl

from cdp.ingest.lenient import encode

GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
"""One transparent pixel."""

_TOP = frozenset(
    {
        "type", "event", "name", "category", "userId", "anonymousId", "previousId", "groupId",
        "messageId", "timestamp", "originalTimestamp", "sentAt", "channel",
    }
)  # fmt: skip
_OBJECTS = frozenset({"properties", "traits", "context", "integrations"})
_KEYS = frozenset({"writeKey", "WriteKey", "write_key"})
_DEEPEST = 8


def read_pixel(query: bytes) -> bytes:
    """Return the event in a query as JSON. What cannot be read is no event, and judged as such."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=500)
    for name, value in pairs:
        if name == "data":
            return _decode_data(value)
    event: dict[str, Any] = {}
    for name, value in pairs:
        if name not in _KEYS:
            _put(event, name, value)
    return encode(event)


def _put(event: dict[str, Any], name: str, value: str) -> None:
    steps = name.split(".", _DEEPEST)
    if len(steps) == 1 and name not in _TOP:
        steps = ["properties", name]
    elif len(steps) > 1 and steps[0] not in _OBJECTS:
        steps = ["properties", *steps]
    within = event
    for step in steps[:-1]:
        inner = within.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        within = inner
    within[steps[-1]] = value


def _decode_data(value: str) -> bytes:
    # A plus sign in a query means a space.
    text = value.replace(" ", "+").encode("latin-1", "replace")
    padded = text + b"=" * (-len(text) % 4)
    try:
        return urlsafe_b64decode(padded) if b"-" in text or b"_" in text else b64decode(padded)
    except ValueError:
        return b"null"
