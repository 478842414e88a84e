"""What one report says of an order, and what all reports together say. Pure.

A *report* is a record (posted, imported, from a shop's hook) or an ecommerce event of an SDK.
Folding is a function of the set of reports: their order of arrival and repetition do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from cdp.orders.name_amounts import name_amounts
from cdp.orders.order_words import Line, Order, Rank, Refund, Report, ReportKind
from cdp.orders.partial_order import lay_over, start_order

__all__ = ["Line", "Order", "Rank", "Refund", "Report", "ReportKind", "fold_reports"]

_encode = msgspec.json.Encoder().encode


def fold_reports(reports: Iterable[Report], default_currency: str) -> Order:
    """Return the order that a non-empty set of reports of one order amounts to.

    Records outrank events. Among records the newest ``updated_at`` counts, whole. Among events the
    newest completed or updated one counts, with every refund beside it, and a cancellation that is
    not older. Of two of the same time an update counts before a completion, and then the greater
    message id. Without any amount the order is worth 0. Partial records are laid over what the
    others come to.

    An event that names no currency speaks of the order's: that of the newest report that names
    one. A refund in another currency than the order's is left out.
    """
    # Two sources may use one message id; what they say is two reports all the same.
    known = sorted(set(reports), key=_order_of)
    partials = [report for report in known if report.is_partial]
    counting = _find_counting(known)
    if not counting:
        started = start_order(partials, default_currency)
        return lay_over(started, partials, is_from_events=False)
    order = _fold(known, counting, default_currency)
    is_from_events = counting[-1].rank is Rank.EVENT
    return lay_over(order, partials, is_from_events=is_from_events) if partials else order


def find_head(reports: Iterable[Report]) -> Report | None:
    """Return the report that says what the order is worth; ``None`` when only partial ones do."""
    counting = _find_counting(sorted(set(reports), key=_order_of))
    return _find_head(counting) if counting else None


def _find_counting(known: Sequence[Report]) -> list[Report]:
    """Return the whole reports of the highest rank."""
    whole = [report for report in known if not report.is_partial]
    return [report for report in whole if report.rank is Rank.RECORD] or whole


def _find_head(counting: Sequence[Report]) -> Report:
    # A refund or cancellation may arrive first, or alone: it is all that is known, then.
    return (_list_stated(counting) or counting)[-1]


def _list_stated(counting: Iterable[Report]) -> list[Report]:
    return [report for report in counting if report.kind in ("record", "completed", "updated")]


def _order_of(report: Report) -> tuple[datetime, bool, str, bytes]:
    # Sent in one batch without times of their own, both happened when they were received.
    return report.at, report.kind == "updated", report.message_id, _encode(report)


def _fold(known: Sequence[Report], counting: Sequence[Report], default_currency: str) -> Order:
    stated = _list_stated(counting)
    head = _find_head(counting)
    currency = _find_currency([*known, *counting, head]) or default_currency
    head = name_amounts(head, currency)
    refunds = _gather_refunds(head, [name_amounts(report, currency) for report in counting])
    total = (head.total or 0) if stated else 0
    refunded = sum(_amount(refund, total) for refund in refunds)
    if stated and head.kind != "record":
        # A full and a partial refund event of one order overlap; a record says what it means.
        refunded = min(refunded, total)
    return Order(
        order_id=head.order_id,
        status=_decide_status(head, counting, total, refunded),
        currency=currency,
        total=total,
        refunded=refunded,
        placed_at=_find_placed_at(head, known),
        updated_at=counting[-1].at,
        discount=head.discount,
        tax=head.tax,
        shipping=head.shipping,
        store=head.store,
        channel=head.channel,
        lines=head.lines,
        refunds=tuple(refunds),
    )


def _find_currency(reports: Sequence[Report]) -> str | None:
    """Return the currency that the last of ``reports`` names, of those that name one."""
    return next((report.currency for report in reversed(reports) if report.currency), None)


def _gather_refunds(head: Report, counting: Sequence[Report]) -> list[Refund]:
    if head.kind == "record":
        return list(head.refunds)
    by_id = {
        refund.refund_id: refund
        for report in counting
        if report.currency == head.currency
        for refund in report.refunds
    }
    return sorted(by_id.values(), key=lambda refund: refund.refund_id)


def _amount(refund: Refund, total: int) -> int:
    return total if refund.amount is None else refund.amount


def _decide_status(head: Report, counting: Sequence[Report], total: int, refunded: int) -> str:
    if head.kind == "record":
        return head.status or "completed"
    if any(r.kind == "cancelled" and r.at >= head.at for r in counting):
        return "cancelled"
    if any(r.kind == "refunded" for r in counting) and refunded >= total:
        return "returned"
    return head.status or "completed"


def _find_placed_at(head: Report, known: Sequence[Report]) -> datetime:
    """As the counting report says, else as any says, else the time of the oldest report."""
    if head.placed_at is not None:
        return head.placed_at
    stated = [report.placed_at for report in known if report.placed_at is not None]
    return min(stated) if stated else min(report.at for report in known)
