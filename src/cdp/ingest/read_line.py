"""From a log line to an ``Event``: what the worker reads. Pure. Whom it names: see ``claims``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from msgspec import Raw

from cdp.ingest.claims import list_claims
from cdp.ingest.event_time import EventTime, decide_time, parse_cached
from cdp.ingest.lenient import (
    BAD_TIME,
    FUTURE_TIME,
    UNWANTED_IDENTIFIER,
    NotJson,
    add_flags,
    decode_leniently,
    encode,
    encode_sorted,
    needs_cleaning,
)
from cdp.ingest.merge_call import list_merged
from cdp.ingest.odd_shapes import straighten
from cdp.ingest.unknown_members import keep_members, list_leftovers
from cdp.ingest.wire_event import (
    KNOWN_MEMBERS,
    UNREADABLE,
    WireContext,
    WireLine,
    decode_context,
    decode_known_line,
    decode_line,
    decode_named,
    decode_object,
    read_id,
)
from cdp.log.format import LoggedLine, RejectedLine
from cdp.model import EVENT_TYPES, Event, EventType, Identifier, Source
from cdp.trait_parts import LARGEST_TRAIT, find_fault

Identify = Callable[[Sequence[tuple[str, object]]], tuple[Identifier, ...]]
"""From (type, raw value) claims to identifiers: normalised, blocked ones gone, strongest first."""

_NO_CONTEXT = WireContext()
_NOTHING: Mapping[str, Any] = {}
_ABSENT = (b"", b"null")
_EMPTY = b"{}"
_NO_TIME = (None, "")
# The difference between two re-sent copies of one message.
_UNSTABLE = ("sentAt", "receivedAt", "_metadata", "writeKey")


def read_line(line: LoggedLine, source: Source, identify: Identify) -> Event | RejectedLine:
    """Return the event in ``line``, or why it cannot be one.

    Every value in the result is strict JSON that Postgres and DuckDB take; what had to be changed
    for that is said in ``context.cdp.flags``, and what has no place of its own is kept under
    ``context.cdp.fields``.
    """
    data = line.line
    try:
        if needs_cleaning(data):
            data = _clean(data)
        parts = _decode(data)
    except UNREADABLE:
        try:
            data = straighten(data)
            parts = _decode(data)
        except UNREADABLE:
            return RejectedLine("unreadable", "the event cannot be read", line.line)
    if parts.wire.type not in EVENT_TYPES:
        return RejectedLine("unknown_type", "`type` is no type of event", line.line)
    try:
        return _build(line, data, source, identify, parts)
    except RecursionError:
        return RejectedLine("too_deep", "the event is nested too deeply", line.line)


class _Parts(NamedTuple):
    """An event taken apart."""

    wire: WireLine
    context: WireContext
    context_bytes: bytes
    traits: dict[str, Any] | None
    traits_bytes: bytes
    properties: bytes
    unknown: Mapping[str, Any] = _NOTHING
    """Members of the event that have no meaning here."""


def _decode(data: bytes) -> _Parts:
    """Decode strictly; raises one of ``UNREADABLE`` for an odd event."""
    unknown = _NOTHING
    try:
        wire: WireLine = decode_known_line(data)
    except UNREADABLE:
        wire = decode_line(data)
        members = decode_object(data)
        unknown = {name: members[name] for name in members.keys() - KNOWN_MEMBERS}
    context = _as_object(wire.context)
    # Most calls have no traits.
    traits = _as_object(wire.traits) if wire.traits else _EMPTY
    return _Parts(
        wire,
        _NO_CONTEXT if context == _EMPTY else decode_context(context),
        context,
        None if traits == _EMPTY else decode_object(traits),
        traits,
        _as_object(wire.properties),
        unknown,
    )


def _as_object(raw: Raw) -> bytes:
    """Return the bytes of an object, an empty one for none; raises ``ValueError`` for others."""
    data = bytes(raw)
    if data.startswith(b"{"):
        return data
    if data in _ABSENT:
        return _EMPTY
    raise ValueError("not an object")


def _build(
    line: LoggedLine, data: bytes, source: Source, identify: Identify, parts: _Parts
) -> Event | RejectedLine:
    wire, context = parts.wire, parts.context
    kind: EventType = wire.type  # type: ignore[assignment]
    original = wire.timestamp if wire.timestamp not in _NO_TIME else wire.original_timestamp
    received_at = parse_cached(line.received_at)
    assert received_at is not None
    when = decide_time(
        original,
        wire.sent_at if wire.sent_at not in _NO_TIME else line.sent_at,
        received_at,
        clock_is_trusted=source.trusts_times,
    )
    consents = _read_consents(context)
    if consents and when.at > received_at:
        # Or the statement before it would be hidden until then, and this one not count yet.
        when = EventTime(received_at, is_future=True)
    personal: Mapping[str, Any] = context.traits or _NOTHING
    if kind == "identify" and parts.traits:
        personal = {**personal, **parts.traits} if personal else parts.traits
    if personal:
        fault = find_fault(personal, source.settings.get("max_trait_bytes", LARGEST_TRAIT))
        if fault is not None:
            return RejectedLine(fault.code, fault.message, line.line, read_id(wire.message_id))
    message_id = read_id(wire.message_id) or _make_message_id(line, data, source, original)
    context_bytes = parts.context_bytes
    if when.is_odd:
        context_bytes = _flag(context_bytes, FUTURE_TIME if when.is_future else BAD_TIME)
    claims = list_claims(wire, context, personal, parts.properties, source.settings)
    if kind == "alias" and parts.unknown:
        claims += list_merged(parts.unknown.get("mergeProperties"))
    allowed = source.settings.get("identifier_types")
    if allowed is not None and any(kind not in allowed for kind, _ in claims):
        claims = [claim for claim in claims if claim[0] in allowed]
        context_bytes = _flag(context_bytes, UNWANTED_IDENTIFIER)
    leftovers = list_leftovers(wire, kind)
    if leftovers or parts.unknown:
        context_bytes = keep_members(context_bytes, leftovers, parts.unknown)
    return Event(
        source,
        message_id,
        kind,
        wire.event if kind == "track" else wire.name,
        when.at,
        received_at,
        identify(claims),
        _choose_properties(kind, parts, personal),
        context_bytes,
        personal,
        consents,
        read_id(wire.group_id),
        None if original in _NO_TIME or when.is_as_written else str(original),
    )


def _choose_properties(kind: EventType, parts: _Parts, personal: Mapping[str, Any]) -> bytes:
    """Return what the call was about: its properties, or the traits of identify and group."""
    if kind == "group" or (kind == "identify" and parts.traits is not None):
        return parts.traits_bytes
    if kind == "identify":
        return encode(personal)
    if kind in ("page", "screen") and (parts.wire.name or parts.wire.category):
        return _name_page(parts.properties, parts.wire)
    return parts.properties


def _name_page(properties: bytes, wire: WireLine) -> bytes:
    """Put a page's name and category among its properties, where Segment's libraries put them."""
    named = decode_named(properties)
    missing = {
        key: value
        for key, value, own in (
            ("name", wire.name, named.name),
            ("category", wire.category, named.category),
        )
        if value and own is None
    }
    return encode({**decode_object(properties), **missing}) if missing else properties


def _read_consents(context: WireContext) -> Mapping[str, bool]:
    consents: dict[str, bool] = {}
    managed = context.consent_management
    if managed is not None:
        # A list of ids; RudderStack's older SDKs send an object of id and name.
        consents.update(dict.fromkeys(_texts(managed.allowed_consent_ids), True))
        consents.update(dict.fromkeys(_texts(managed.denied_consent_ids), False))
    if context.consent is not None and context.consent.category_preferences:
        preferences = context.consent.category_preferences
        consents.update({k: v for k, v in preferences.items() if isinstance(v, bool)})
    return consents or _NOTHING


def _texts(values: list[Any] | dict[str, Any] | None) -> list[str]:
    return [value for value in values or () if isinstance(value, str) and value]


def _flag(context: bytes, flag: str) -> bytes:
    event = {"context": decode_object(context)}
    add_flags(event, {flag})
    return encode(event["context"])


def _clean(data: bytes) -> bytes:
    """Return ``data`` without what strict readers refuse, flagged; as it was when that fails."""
    try:
        event, flags = decode_leniently(data)
    except NotJson:
        return data
    if not flags or not isinstance(event, dict):
        return data
    add_flags(event, flags)
    return encode(event)


def _make_message_id(line: LoggedLine, data: bytes, source: Source, original: object) -> str:
    """Make the id that a copy of this message gets too: from source, content and its own time.

    A message without a time of its own is taken for a new one whenever it comes, so its id is made
    from the request that brought it.
    """
    if original in _NO_TIME:
        # The lines of one request lie in several records, each numbered from 0: hence the data.
        content = f"{line.request_id}\n{line.ordinal}\n".encode() + data
    else:
        event = decode_object(data)
        for name in _UNSTABLE:
            event.pop(name, None)
        content = encode_sorted(event)
    digest = blake2b(content, digest_size=16, key=source.source_id.encode()[:64]).hexdigest()
    return f"cdp-{digest}"
