"""Read a posted order: what it says of the order, and of whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.orders.order import Report
from cdp.orders.read_report import read_record
from cdp.posted_record import Claim, Refusal, make_message_id, read_claims


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
    message_id = make_message_id("order", document, place)
    if isinstance(message_id, Refusal):
        return message_id
    report = read_record(
        document,
        message_id=message_id,
        received_at=received_at,
        default_currency=default_currency,
    )
    if isinstance(report, Refusal):
        return report
    claims = read_claims(document.get("identifiers"))
    if isinstance(claims, Refusal):
        return claims
    return OrderRecord(report, claims, report.placed_at or report.at)


def lacks_amount(document: object) -> bool:
    """Return whether an order names an amount that decides its worth, and leaves it null.

    An order's ``total``, a line's ``price`` and ``quantity``, a refund's ``amount``: null means
    something else there, such as a refund of everything, than a number that was none.
    """
    if not isinstance(document, Mapping):
        return False
    return (
        _is_null(document, "total")
        or any(_is_null(one, "price", "quantity") for one in _list_objects(document.get("lines")))
        or any(_is_null(one, "amount") for one in _list_objects(document.get("refunds")))
    )


def _is_null(document: Mapping[str, Any], *names: str) -> bool:
    return any(name in document and document[name] is None for name in names)


def _list_objects(value: object) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else ()
