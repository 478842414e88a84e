"""The words for orders: reports of one, and the order that they amount to. Data only."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Literal

import msgspec

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
    """What one message said of an order. Amounts are minor units of ``currency``; without one they

    are in the order's own, whichever that is, and counted as ``money.read_unnamed`` does.
    """

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
    is_partial: bool = False
    """Whether it names only what it is about, and leaves the rest of the order as it is."""

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
