"""Read a posted order: what it says of the order, and of whom. Pure.

The door and the worker read the same line with this function, so what the door lets in the worker
can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec

from cdp.orders.order import Report
from cdp.orders.read_report import Refusal, read_record

Claim = tuple[str, object]
"""The type and the value of an identifier as it was sent."""

_LONGEST_VALUE = 512
_FURTHEST_AHEAD = timedelta(hours=24)

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """A posted order, read."""

    report: Report
    claims: tuple[Claim, ...]
    """Who bought; may be empty."""
    seen_at: datetime
    """When these identifiers were seen together: as the order was placed."""


def read_order(
    document: object, *, place: str, received_at: datetime, default_currency: str
) -> OrderRecord | Refusal:
    """Read a posted order, or say why it is not taken.

    ``place`` tells this order from every other that was ever posted without ``updated_at``.
    """
    if not isinstance(document, Mapping):
        return Refusal("invalid_order", "an order is a JSON object")
    report = read_record(
        document,
        message_id=make_message_id(document, place),
        received_at=received_at,
        default_currency=default_currency,
    )
    if isinstance(report, Refusal):
        return report
    claims = read_claims(document.get("identifiers"))
    if isinstance(claims, Refusal):
        return claims
    seen_at = report.placed_at or report.at
    if seen_at > received_at + _FURTHEST_AHEAD:
        seen_at = received_at
    return OrderRecord(report, claims, seen_at)


def make_message_id(document: Mapping[str, Any], place: str) -> str:
    """Return the id that the same version of the order gets whenever it is sent again.

    An order without a time of its own speaks of the moment in which it comes, so it is new.
    """
    content = _encode(document)
    if document.get("updated_at") is None:
        content = f"{place}\n".encode() + content
    return f"order-{blake2b(content, digest_size=16).hexdigest()}"


def read_claims(value: object) -> tuple[Claim, ...] | Refusal:
    """Read ``[{"type", "value"}]``; empty values say nothing, as on the wire."""
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return _refuse("`identifiers` is a list of objects", "identifiers")
    claims: list[Claim] = []
    for number, item in enumerate(value):
        where = f"identifiers.{number}"
        if not isinstance(item, Mapping):
            return _refuse("an identifier is an object with `type` and `value`", where)
        kind, said = item.get("type"), item.get("value")
        if not isinstance(kind, str) or not kind:
            return _refuse("`type` is a text such as email or user_id", f"{where}.type")
        if said is None or said == "":
            continue
        if isinstance(said, bool) or not isinstance(said, str | int):
            return _refuse("`value` is text or a whole number", f"{where}.value")
        if len(str(said)) > _LONGEST_VALUE:
            return _refuse(f"`value` is longer than {_LONGEST_VALUE} characters", f"{where}.value")
        claims.append((kind, said))
    return tuple(claims)


def _refuse(message: str, field: str) -> Refusal:
    return Refusal("invalid_identifiers", message, field)
