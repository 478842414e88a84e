"""Amounts of a report that names no currency, in the currency of its order. Pure."""

from __future__ import annotations

import msgspec

from cdp.money import name_currency
from cdp.orders.order_words import Report

_replace = msgspec.structs.replace


def name_amounts(report: Report, currency: str) -> Report:
    """Return ``report`` with its amounts in ``currency`` when it names none; else as it is."""
    if report.currency is not None:
        return report

    def name(amount: int | None) -> int | None:
        return None if amount is None else name_currency(amount, currency)

    return _replace(
        report,
        currency=currency,
        total=name(report.total),
        discount=name(report.discount),
        tax=name(report.tax),
        shipping=name(report.shipping),
        lines=tuple(_replace(line, price=name(line.price)) for line in report.lines),
        refunds=tuple(_replace(refund, amount=name(refund.amount)) for refund in report.refunds),
    )
