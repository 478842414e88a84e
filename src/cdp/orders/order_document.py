"""The shapes in which orders and their versions are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cdp.access import masking
from cdp.orders.order_words import Line, Order, Refund, Report
from cdp.runtime.clock import format_time

Shown = dict[str, Any]


def show_order(order: Order, *, is_masked: bool) -> Shown:
    """Return an order as it stands, money in minor units with its currency."""
    currency = order.currency
    shown = {
        "order_id": order.order_id,
        "status": order.status,
        "currency": currency,
        "placed_at": _show_time(order.placed_at),
        "updated_at": _show_time(order.updated_at),
        "total": _show_money(order.total, currency),
        "refunded": _show_money(order.refunded, currency),
        "net": _show_money(order.net, currency),
        **_show_rest(order, currency),
    }
    return masking.mask_properties(shown) if is_masked else shown


def show_version(report: Report, *, is_masked: bool) -> Shown:
    """Return what one message said of an order; ``None`` stands for what it did not say."""
    currency = report.currency
    shown = {
        "message_id": report.message_id,
        "kind": report.kind,
        "at": _show_time(report.at),
        "partial": report.is_partial,
        "status": report.status,
        "currency": currency,
        "placed_at": _show_time(report.placed_at),
        "total": _show_money(report.total, currency),
        **_show_rest(report, currency),
    }
    return masking.mask_properties(shown) if is_masked else shown


def _show_rest(said: Order | Report, currency: str | None) -> Shown:
    return {
        "discount": _show_money(said.discount, currency),
        "tax": _show_money(said.tax, currency),
        "shipping": _show_money(said.shipping, currency),
        "store": said.store,
        "channel": said.channel,
        "lines": _show_lines(said.lines, currency),
        "refunds": _show_refunds(said.refunds, currency),
    }


def _show_lines(lines: Iterable[Line], currency: str | None) -> list[Shown]:
    return [
        {
            "sku": line.sku,
            "name": line.name,
            "category": line.category,
            "quantity": line.quantity,
            "price": _show_money(line.price, currency),
        }
        for line in lines
    ]


def _show_refunds(refunds: Iterable[Refund], currency: str | None) -> list[Shown]:
    return [
        {
            "refund_id": refund.refund_id,
            "at": _show_time(refund.at),
            "amount": _show_money(refund.amount, currency),
        }
        for refund in refunds
    ]


def _show_money(amount: int | None, currency: str | None) -> Shown | None:
    return None if amount is None else {"amount": amount, "currency": currency}


def _show_time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
