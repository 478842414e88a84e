"""What posted records of every kind (orders, accounts) have in common. Pure.

The door and the worker read the same line with the same functions, so what the door lets in the
worker can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec

from cdp.runtime.clock import read_time as read_written

Claim = tuple[str, object]
"""The type and the value of an identifier as it was sent."""

FURTHEST_AHEAD = timedelta(hours=24)
_LONGEST_VALUE = 512
_LONGEST_MESSAGE_ID = 200

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a posted record is not taken. ``field`` is a dotted path into it."""

    code: str
    message: str
    field: str = ""


def read_time(document: Mapping[str, Any], field: str, received_at: datetime) -> datetime | Refusal:
    """Return the time that stands in ``field``; ``received_at`` when there is none.

    It may be written as on an event: RFC 3339 text, or a number since 1970.
    A time more than 24 hours after the receipt is a mistake, and stands for the receipt: a record
    dated 2099 must not be the newest for ever.
    """
    value = document.get(field)
    if value is None:
        return received_at
    time = read_written(value) if isinstance(value, str | int | float) else None
    if time is None:
        message = f"`{field}` is no time: write RFC 3339, or seconds or milliseconds since 1970"
        return Refusal("invalid_time", message, field)
    return received_at if time > received_at + FURTHEST_AHEAD else time


def make_message_id(kind: str, document: Mapping[str, Any], place: str) -> str | Refusal:
    """Return the id that the same version of a record gets whenever it is sent again.

    It is the record's own ``messageId``, or made from its content. A record without either that or
    ``updated_at`` speaks of the moment in which it comes, so it is new: ``place`` tells it from
    every other.
    """
    own = document.get("messageId")
    if own is not None and own != "":
        if isinstance(own, bool) or not isinstance(own, str | int):
            return Refusal("invalid_message_id", "`messageId` is text", "messageId")
        if len(str(own)) > _LONGEST_MESSAGE_ID:
            message = f"`messageId` is longer than {_LONGEST_MESSAGE_ID} characters"
            return Refusal("invalid_message_id", message, "messageId")
        return f"{kind}-{own}"
    content = _encode(document)
    if document.get("updated_at") is None:
        content = f"{place}\n".encode() + content
    return f"{kind}-{blake2b(content, digest_size=16).hexdigest()}"


def read_claims(value: object, field: str = "identifiers") -> tuple[Claim, ...] | Refusal:
    """Read ``[{"type", "value"}]``; empty values say nothing, as on the wire."""
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return _refuse(f"`{field}` is a list of objects", field)
    claims: list[Claim] = []
    for number, item in enumerate(value):
        claim = read_claim(item, f"{field}.{number}")
        if isinstance(claim, Refusal):
            return claim
        if claim is not None:
            claims.append(claim)
    return tuple(claims)


def read_claim(value: object, field: str) -> Claim | Refusal | None:
    """Read ``{"type", "value"}``; ``None`` when its value is empty."""
    if not isinstance(value, Mapping):
        return _refuse("an identifier is an object with `type` and `value`", field)
    kind, said = value.get("type"), value.get("value")
    if not isinstance(kind, str) or not kind:
        return _refuse("`type` is a text such as email or user_id", f"{field}.type")
    if said is None or said == "":
        return None
    if isinstance(said, bool) or not isinstance(said, str | int):
        return _refuse("`value` is text or a whole number", f"{field}.value")
    if len(str(said)) > _LONGEST_VALUE:
        return _refuse(f"`value` is longer than {_LONGEST_VALUE} characters", f"{field}.value")
    return kind, said


def _refuse(message: str, field: str) -> Refusal:
    return Refusal("invalid_identifiers", message, field)
