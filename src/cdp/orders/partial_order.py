"""Lay what partial records say over an order. Pure.

A partial record names only what it is about: a refund, a cancellation. What it names counts when
the record is not older than what else is known; its refunds are money given back and count beside
all others, whenever they come, each by its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cdp.orders.order_words import Order, Refund, Report


def start_order(partials: Sequence[Report], default_currency: str) -> Order:
    """Return the order that is to be filled when nothing but ``partials`` is known of it."""
    named = [report.currency for report in partials if report.currency is not None]
    placed = [report.placed_at for report in partials if report.placed_at is not None]
    return Order(
        order_id=partials[-1].order_id,
        status="",
        currency=named[-1] if named else default_currency,
        total=0,
        refunded=0,
        placed_at=min(placed) if placed else partials[0].at,
        updated_at=partials[0].at,
        discount=None,
        tax=None,
        shipping=None,
        store=None,
        channel=None,
        lines=(),
        refunds=(),
    )


def lay_over(order: Order, partials: Sequence[Report], *, is_from_events: bool) -> Order:
    """Return ``order`` with ``partials`` laid over it, which come oldest first.

    Refunds that records name outrank those that events do. Amounts in another currency than the
    order's are left out.
    """
    newer = [report for report in partials if report.at >= order.updated_at]
    refunds = _gather_refunds(order, partials, newer, is_from_events=is_from_events)
    said: dict[str, Any] = {}
    for report in newer:
        said |= _list_said(report, order.currency)
    total: int = said.get("total", order.total)
    refunded = sum(total if refund.amount is None else refund.amount for refund in refunds)
    changed = {
        **said,
        "refunds": tuple(refunds),
        "refunded": refunded,
        "status": said.get("status")
        or _find_status(order, total, refunded, is_refunded=any(r.refunds for r in newer)),
        "updated_at": newer[-1].at if newer else order.updated_at,
    }
    return msgspec.structs.replace(order, **changed)


def _list_said(report: Report, currency: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "status": report.status,
        "placed_at": report.placed_at,
        "store": report.store,
        "channel": report.channel,
    }
    if report.currency == currency:
        said |= {
            "total": report.total,
            "discount": report.discount,
            "tax": report.tax,
            "shipping": report.shipping,
            "lines": report.lines,
        }
    return {name: value for name, value in said.items() if value is not None and value != ()}


def _gather_refunds(
    order: Order,
    partials: Sequence[Report],
    newer: Sequence[Report],
    *,
    is_from_events: bool,
) -> list[Refund]:
    older = partials[: len(partials) - len(newer)]
    named = any(report.refunds for report in partials)
    own = () if is_from_events and named else order.refunds
    by_id: dict[str, Refund] = {}
    for refunds in (
        *_list_refunds(older, order.currency),
        own,
        *_list_refunds(newer, order.currency),
    ):
        by_id |= {refund.refund_id: refund for refund in refunds}
    return list(by_id.values())


def _list_refunds(reports: Sequence[Report], currency: str) -> list[tuple[Refund, ...]]:
    return [report.refunds for report in reports if report.currency == currency]


def _find_status(order: Order, total: int, refunded: int, *, is_refunded: bool) -> str:
    if order.status == "":
        return "returned" if refunded else "completed"
    return "returned" if is_refunded and refunded >= total > 0 else order.status
