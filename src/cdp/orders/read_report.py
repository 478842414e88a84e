"""Read reports: from a posted order record, and from the ecommerce events of the SDKs. Pure.

Event and property names are those of the ecommerce specifications that both SDK families share:
``Order Completed``, ``Order Updated``, ``Order Refunded``, ``Order Cancelled``; ``order_id``,
``total``, ``revenue``, ``products``, …
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cdp.money import LARGEST_MINOR, minor_digits, read_money, read_unnamed
from cdp.orders.order import Line, Refund, Report, ReportKind
from cdp.posted_record import Refusal, read_time
from cdp.runtime.clock import read_time as read_written

ORDER_EVENTS: Mapping[str, ReportKind] = {
    "Order Completed": "completed",
    "Order Updated": "updated",
    "Order Refunded": "refunded",
    "Order Cancelled": "cancelled",
}
_EVENT_STATUS = {"completed": "completed", "updated": None, "refunded": None, "cancelled": None}
_LONGEST_ID = 200
_LARGEST_QUANTITY = 10**9


def read_record(
    document: Any, *, message_id: str, received_at: datetime, default_currency: str
) -> Report | Refusal:
    """Read a posted order of the published shape into a report, or say why not.

    With ``partial`` it says only what it names; the rest of the order stays as it is.

    ``updated_at`` missing, or far ahead of it, means ``received_at``; ``currency`` missing means
    the workspace's.
    """
    if not isinstance(document, Mapping):
        return Refusal("invalid_order", "an order is a JSON object")
    order_id = _read_id(document.get("order_id"))
    if order_id is None:
        return Refusal("missing_order_id", "`order_id` is text or a whole number", "order_id")
    currency = str(document.get("currency") or default_currency).upper()
    if minor_digits(currency) is None:
        return Refusal("unknown_currency", f"{currency!r} is no ISO 4217 currency", "currency")
    updated_at = read_time(document, "updated_at", received_at)
    if isinstance(updated_at, Refusal):
        return updated_at
    placed_at = read_time(document, "placed_at", received_at)
    if isinstance(placed_at, Refusal):
        return placed_at
    amounts: dict[str, int | None] = {}
    for field in ("total", "discount", "tax", "shipping"):
        value = document.get(field)
        amounts[field] = None if value is None else read_money(value, currency)
        if value is not None and amounts[field] is None:
            return Refusal("invalid_money", f"`{field}` is no amount in {currency}", field)
    lines = _read_lines(document.get("lines"), currency)
    refunds = _read_refunds(document.get("refunds"), currency)
    if isinstance(lines, Refusal):
        return lines
    if isinstance(refunds, Refusal):
        return refunds
    is_partial = document.get("partial") is True
    names_currency = bool(document.get("currency")) or not is_partial
    names_amounts = refunds or lines or any(amount is not None for amount in amounts.values())
    if names_amounts and not names_currency:
        message = "a partial order names the currency of its amounts"
        return Refusal("missing_currency", message, "currency")
    if is_partial and not all(
        _read_id(one.get("refund_id")) for one in document.get("refunds") or ()
    ):
        message = "a refund in a partial order is told from others by its `refund_id`"
        return Refusal("missing_refund_id", message, "refunds")
    if amounts["total"] is None and not is_partial:
        amounts["total"] = _sum_lines(lines)
        if abs(amounts["total"] or 0) > LARGEST_MINOR:
            return Refusal("invalid_money", "the lines are worth more than can be counted", "lines")
    return Report(
        order_id=order_id,
        kind="record",
        at=updated_at,
        message_id=message_id,
        placed_at=None if document.get("placed_at") is None else placed_at,
        status=_read_text(document.get("status")),
        currency=currency if names_currency else None,
        total=amounts["total"],
        discount=amounts["discount"],
        tax=amounts["tax"],
        shipping=amounts["shipping"],
        store=_read_text(document.get("store")),
        channel=_read_text(document.get("channel")),
        lines=lines,
        refunds=refunds,
        is_partial=is_partial,
    )


def read_event(
    name: str,
    properties: Mapping[str, Any],
    *,
    at: datetime,
    message_id: str,
) -> Report | None:
    """Read an ecommerce event into a report; ``None`` when it is none or names no order.

    Amounts that cannot be read count as not said: the event itself is kept all the same. A refund
    without an amount is worth its products, where they have prices, else all of the order.
    """
    kind = ORDER_EVENTS.get(name)
    order_id = _read_id(properties.get("order_id"))
    if kind is None or order_id is None:
        return None
    currency = _read_currency(properties)
    if currency is not None and minor_digits(currency) is None:
        return None
    said = properties.get("total")
    total = _read_amount(properties.get("revenue") if said is None else said, currency)
    read = _read_lines(properties.get("products"), currency)
    lines = () if isinstance(read, Refusal) else read
    refunds: tuple[Refund, ...] = ()
    if kind == "refunded":
        refund_id = _read_id(properties.get("refund_id")) or message_id
        refunds = (Refund(refund_id, _sum_lines(lines) if total is None else total, at),)
    return Report(
        order_id=order_id,
        kind=kind,
        at=at,
        message_id=message_id,
        placed_at=at if kind == "completed" else None,
        status=_read_text(properties.get("status")) or _EVENT_STATUS[kind],
        currency=currency,
        total=None if kind in ("refunded", "cancelled") else total,
        discount=_read_amount(properties.get("discount"), currency),
        tax=_read_amount(properties.get("tax"), currency),
        shipping=_read_amount(properties.get("shipping"), currency),
        store=_read_text(properties.get("store") or properties.get("affiliation")),
        channel=_read_text(properties.get("channel")),
        lines=lines,
        refunds=refunds,
    )


def _read_currency(properties: Mapping[str, Any]) -> str | None:
    """Return the currency that an event names, beside its amounts or in one of them."""
    named = properties.get("currency")
    for field in ("total", "revenue"):
        amount = properties.get(field)
        if not named and isinstance(amount, Mapping):
            named = amount.get("currency")
    return str(named).upper() if named else None


def _read_amount(value: Any, currency: str | None) -> int | None:
    return read_unnamed(value) if currency is None else read_money(value, currency)


def _read_id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if 0 < len(text) <= _LONGEST_ID else None


def _read_text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def _read_lines(value: Any, currency: str | None) -> tuple[Line, ...] | Refusal:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return Refusal("invalid_lines", "`lines` is a list of objects", "lines")
    lines: list[Line] = []
    for number, item in enumerate(value):
        if not isinstance(item, Mapping):
            return Refusal("invalid_lines", "a line is an object", f"lines.{number}")
        price = item.get("price")
        minor = None if price is None else _read_amount(price, currency)
        if price is not None and minor is None:
            where = f"lines.{number}.price"
            return Refusal("invalid_money", f"`price` is no amount in {currency}", where)
        quantity = item.get("quantity")
        quantity = 1 if quantity is None else quantity
        if isinstance(quantity, bool) or not isinstance(quantity, int | float):
            return Refusal("invalid_lines", "`quantity` is a number", f"lines.{number}.quantity")
        if abs(quantity) > _LARGEST_QUANTITY or abs(quantity * (minor or 0)) > LARGEST_MINOR:
            where = f"lines.{number}.quantity"
            return Refusal("invalid_lines", "`quantity` is beyond all measure", where)
        lines.append(
            Line(
                sku=_read_text(item.get("sku") or item.get("product_id")),
                name=_read_text(item.get("name")),
                category=_read_text(item.get("category")),
                quantity=float(quantity),
                price=minor,
            )
        )
    return tuple(lines)


def _read_refunds(value: Any, currency: str) -> tuple[Refund, ...] | Refusal:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return Refusal("invalid_refunds", "`refunds` is a list of objects", "refunds")
    refunds: list[Refund] = []
    for number, item in enumerate(value):
        where = f"refunds.{number}"
        if not isinstance(item, Mapping):
            return Refusal("invalid_refunds", "a refund is an object", where)
        amount = item.get("amount")
        minor = None if amount is None else read_money(amount, currency)
        if amount is not None and minor is None:
            message = f"`amount` is no amount in {currency}"
            return Refusal("invalid_money", message, f"{where}.amount")
        at = item.get("at")
        refunds.append(
            Refund(
                refund_id=_read_id(item.get("refund_id")) or str(number),
                amount=minor,
                at=read_written(at) if isinstance(at, str | int | float) else None,
            )
        )
    # One refund told twice is one refund.
    return tuple({refund.refund_id: refund for refund in refunds}.values())


def _sum_lines(lines: Sequence[Line]) -> int | None:
    totals = [line.total for line in lines if line.total is not None]
    return sum(totals) if totals else None
