"""From a consent as it is posted to the event that states it. Pure.

A consent is a fact like any other: it goes through the log, is deduplicated, counted and ordered by
its own time. The event carries it where SDKs put theirs, ``context.consent.categoryPreferences``,
and origin and proof among its properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

from cdp.ingest.lenient import encode, encode_sorted
from cdp.posted_record import Refusal, read_claim, read_time
from cdp.reach import CHANNELS, name_statement, split_name
from cdp.runtime.clock import format_time

EVENT_NAME = "Consent Updated"
MEMBERS = frozenset(
    {
        "identifier", "purpose", "channel", "granted", "at", "source", "evidence", "message_id",
    }
)  # fmt: skip
_LONGEST_NAME = 200
_MOST_EVIDENCE = 16 * 1024


def write_event(document: Any, received_at: datetime, place: str) -> dict[str, Any] | Refusal:
    """Return the track call that states a posted consent, or why it is not taken.

    ``{"identifier": {"type", "value"}, "purpose", "channel"?, "granted", "at"?, "source"?,
    "evidence"?, "message_id"?}``. ``place`` tells the statement from every other: one without
    ``at`` speaks of the moment in which it comes, so it is new whenever it comes; one with ``at``
    that is sent again is a duplicate.
    """
    if not isinstance(document, Mapping):
        return Refusal("invalid_consent", "a consent is an object")
    try:
        encode(document)
    except UnicodeEncodeError:
        return Refusal("invalid_text", "half a surrogate pair is no text")
    for name in document:
        if name not in MEMBERS:
            return Refusal("unknown_key", f"`{name}` does not belong here", str(name))
    claim = read_claim(document.get("identifier"), "identifier")
    if isinstance(claim, Refusal):
        return claim
    if claim is None:
        return Refusal("no_identifier", "whose consent is it? give an identifier", "identifier")
    stated = _read_name(document)
    if isinstance(stated, Refusal):
        return stated
    purpose, channel = stated
    granted = document.get("granted")
    if not isinstance(granted, bool):
        return Refusal("invalid_granted", "`granted` is true or false", "granted")
    at = read_time(document, "at", received_at)
    if isinstance(at, Refusal):
        return at
    proof = _read_proof(document)
    if isinstance(proof, Refusal):
        return proof
    message_id = _make_message_id(document, place)
    if isinstance(message_id, Refusal):
        return message_id
    kind, value = claim
    name = name_statement(purpose, channel)
    return {
        "type": "track",
        "event": EVENT_NAME,
        "messageId": message_id,
        "timestamp": format_time(at),
        "context": {
            "externalIds": [{"type": kind, "id": str(value), "collection": "users"}],
            "consent": {"categoryPreferences": {name: granted}},
        },
        "properties": {"purpose": purpose, "channel": channel, "granted": granted, **proof},
    }


def _read_name(document: Mapping[str, Any]) -> tuple[str, str | None] | Refusal:
    purpose, channel = document.get("purpose"), document.get("channel")
    if not isinstance(purpose, str) or not purpose.strip() or len(purpose) > _LONGEST_NAME:
        message = f"`purpose` is a text such as marketing, of up to {_LONGEST_NAME} characters"
        return Refusal("invalid_purpose", message, "purpose")
    named = split_name(purpose)
    if channel is None:
        return named
    if channel not in CHANNELS:
        return Refusal("unknown_channel", f"a channel is one of {', '.join(CHANNELS)}", "channel")
    if named[1] not in (None, channel):
        return Refusal("unknown_channel", "the purpose names another channel", "channel")
    return named[0], channel


def _read_proof(document: Mapping[str, Any]) -> dict[str, Any] | Refusal:
    source, evidence = document.get("source"), document.get("evidence")
    if source is not None and (not isinstance(source, str) or len(source) > _LONGEST_NAME):
        message = f"`source` is a text of up to {_LONGEST_NAME} characters"
        return Refusal("invalid_source", message, "source")
    if len(encode(evidence)) > _MOST_EVIDENCE:
        return Refusal(
            "evidence_too_large", f"evidence may have {_MOST_EVIDENCE} bytes", "evidence"
        )
    given = {"source": source, "evidence": evidence}
    return {name: value for name, value in given.items() if value is not None}


def _make_message_id(document: Mapping[str, Any], place: str) -> str | Refusal:
    own = document.get("message_id")
    if own is not None:
        if not isinstance(own, str) or not own or len(own) > _LONGEST_NAME:
            message = f"`message_id` is a text of up to {_LONGEST_NAME} characters"
            return Refusal("invalid_message_id", message, "message_id")
        return own
    content = encode_sorted(document)
    if document.get("at") is None:
        content = f"{place}\n".encode() + content
    return f"consent-{blake2b(content, digest_size=16).hexdigest()}"
