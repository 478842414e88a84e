"""What one report says of an order, and what all reports together say. Pure.

A *report* is a record (posted, imported, from a shop's hook) or an ecommerce event of an SDK.
Folding is a function of the set of reports: their order of arrival and repetition do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Literal

import msgspec

_encode = msgspec.json.Encoder().encode

ReportKind = Literal["record", "completed", "updated", "refunded", "cancelled"]


class Rank(IntEnum):
    """A back office's record outranks what a browser or app said, whatever the time."""

    EVENT = 0
    RECORD = 1


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an order. ``price`` is per piece, in minor units of the order's currency."""

    sku: str | None = None
    name: str | None = None
    category: str | None = None
    quantity: float = 1
    price: int | None = None

    @property
    def total(self) -> int | None:
        """Price times quantity, in minor units."""
        return None if self.price is None else round(self.price * self.quantity)


class Refund(msgspec.Struct, frozen=True, omit_defaults=True):
    """Money given back. ``amount`` is ``None`` for "all of it"."""

    refund_id: str
    amount: int | None = None
    at: datetime | None = None


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one message said of an order. Amounts are minor units of ``currency``."""

    order_id: str
    kind: ReportKind
    at: datetime
    """``updated_at`` of a record, else when it was received; the event time of an event."""
    message_id: str
    placed_at: datetime | None = None
    status: str | None = None
    currency: str | None = None
    total: int | None = None
    discount: int | None = None
    tax: int | None = None
    shipping: int | None = None
    store: str | None = None
    channel: str | None = None
    lines: tuple[Line, ...] = ()
    refunds: tuple[Refund, ...] = ()

    @property
    def rank(self) -> Rank:
        return Rank.RECORD if self.kind == "record" else Rank.EVENT


class Order(msgspec.Struct, frozen=True):
    """An order as all its reports say. Amounts are minor units of ``currency``."""

    order_id: str
    status: str
    currency: str
    total: int
    """Before refunds."""
    refunded: int
    placed_at: datetime
    updated_at: datetime
    discount: int | None
    tax: int | None
    shipping: int | None
    store: str | None
    channel: str | None
    lines: tuple[Line, ...]
    refunds: tuple[Refund, ...]

    @property
    def net(self) -> int:
        """What remains after refunds."""
        return self.total - self.refunded


def fold_reports(reports: Iterable[Report], default_currency: str) -> Order:
    """Return the order that a non-empty set of reports of one order amounts to.

    Records outrank events. Among records the newest ``updated_at`` counts, whole. Among events the
    newest completed or updated one counts, with every refund beside it, and a cancellation that is
    not older. Ties go to the greater message id. Without any amount the order is worth 0.
    """
    # Two sources may use one message id; what they say is two reports all the same.
    known = sorted(set(reports), key=_order_of)
    records = [report for report in known if report.rank is Rank.RECORD]
    return _fold(known, records or known, default_currency)


def _order_of(report: Report) -> tuple[datetime, str, bytes]:
    return report.at, report.message_id, _encode(report)


def _fold(known: Sequence[Report], counting: Sequence[Report], default_currency: str) -> Order:
    stated = [report for report in counting if report.kind in ("record", "completed", "updated")]
    # A refund or cancellation may arrive first, or alone: it is all that is known, then.
    head = (stated or counting)[-1]
    refunds = _gather_refunds(head, counting)
    total = (head.total or 0) if stated else 0
    refunded = sum(_amount(refund, total) for refund in refunds)
    if stated and head.kind != "record":
        # A full and a partial refund event of one order overlap; a record says what it means.
        refunded = min(refunded, total)
    return Order(
        order_id=head.order_id,
        status=_decide_status(head, counting, total, refunded),
        currency=head.currency or default_currency,
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


def _gather_refunds(head: Report, counting: Sequence[Report]) -> list[Refund]:
    if head.kind == "record":
        return list(head.refunds)
    by_id = {refund.refund_id: refund for report in counting for refund in report.refunds}
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
