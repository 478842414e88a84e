"""Keep what an event says beyond what is looked into: under ``context.cdp.fields``. Pure.

Nothing that was sent disappears: members of the caller's own, and those that mean nothing for this
type of call (the ``traits`` of a track call), stay with the event by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Raw

from cdp.ingest.lenient import encode
from cdp.ingest.wire_event import WireLine, decode_object

_EMPTY = frozenset((b"", b"null", b"{}", b"[]", b'""'))
# What the SDKs write of themselves when nobody chose anything.
_DEFAULTS = _EMPTY | {b'{"All":true}', b'{"All": true}', b'{"Segment.io":true}'}
_CALLS_WITH_TRAITS = ("identify", "group")


def list_leftovers(wire: WireLine, kind: str) -> list[tuple[str, bytes]]:
    """Return the known members of an event that nothing else of it keeps, as JSON by name."""
    found: list[tuple[str, bytes]] = []
    integrations = wire.integrations
    if integrations and bytes(integrations) not in _DEFAULTS:
        found.append(("integrations", bytes(integrations)))
    if kind in _CALLS_WITH_TRAITS:
        if wire.properties:
            found += _unless_empty("properties", wire.properties)
    elif wire.traits:
        found += _unless_empty("traits", wire.traits)
    if kind != "track":
        if wire.event:
            found.append(("event", encode(wire.event)))
    elif wire.name or wire.category:
        found += [
            (name, encode(value))
            for name, value in (("name", wire.name), ("category", wire.category))
            if value
        ]
    if wire.previous_id and kind != "alias":
        found.append(("previousId", encode(wire.previous_id)))
    if wire.channel:
        found += _unless_empty("channel", wire.channel)
    return found


def _unless_empty(name: str, raw: Raw) -> Iterator[tuple[str, bytes]]:
    value = bytes(raw)
    if value not in _EMPTY:
        yield name, value


def keep_members(
    context: bytes, leftovers: list[tuple[str, bytes]], unknown: Mapping[str, Any]
) -> bytes:
    """Return ``context``, a JSON object, with these members under ``cdp.fields``."""
    fields = [b"%s:%s" % (encode(name), value) for name, value in leftovers]
    fields += [b"%s:%s" % (encode(name), encode(value)) for name, value in unknown.items()]
    kept = b"{%s}" % b",".join(fields)
    if b'"cdp"' in context:
        found = decode_object(context)
        mark = found.get("cdp")
        found["cdp"] = {**(mark if isinstance(mark, dict) else {}), "fields": decode_object(kept)}
        return encode(found)
    rest = context[1:-1].strip()
    return b'{%s%s"cdp":{"fields":%s}}' % (rest, b"," if rest else b"", kept)
