"""What orders come to: gross, refunded and net, per currency and in the one that is reported. Pure.

Amounts are minor units. In the reporting currency each order is converted once, by the rate of its
date (see ``rates``): its net, and its total; what was refunded is the difference, so that the
figures add up. One order without a rate makes all of that absent, and it is said which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from cdp.rates import RateTable, divide_half_even, find_day

_MOST_MISSING = 100
_MOST_NAMED = 10


class Sale(NamedTuple):
    """Orders that are equal in all of this; mostly one."""

    currency: str
    placed_at: datetime
    total: int
    """Before refunds."""
    refunded: int
    orders: int = 1
    order_id: str = ""
    """Of one of them."""

    @property
    def net(self) -> int:
        return self.total - self.refunded


class Sums(NamedTuple):
    """What orders in one currency come to."""

    currency: str
    orders: int
    """Those with something left after refunds."""
    gross: int
    refunded: int
    net: int

    @property
    def average(self) -> int | None:
        """Net per order, rounded half to even; ``None`` without orders."""
        return divide_half_even(self.net, self.orders) if self.orders else None


class MissingRate(NamedTuple):
    """Orders of one day for which there is no rate."""

    currency: str
    day: date
    orders: int
    order_ids: list[str]
    """Of the first of them."""


class Reported(NamedTuple):
    """The figures in the reporting currency; ``sums`` is absent when a rate is ``missing``."""

    currency: str
    sums: Sums | None
    missing: Sequence[MissingRate]


def sum_by_currency(sales: Iterable[Sale]) -> list[Sums]:
    """Return what ``sales`` come to in each currency, by its code."""
    found: dict[str, list[Sale]] = defaultdict(list)
    for sale in sales:
        found[sale.currency].append(sale)
    return [
        Sums(
            currency,
            sum(one.orders for one in own if one.net > 0),
            sum(one.total * one.orders for one in own),
            sum(one.refunded * one.orders for one in own),
            sum(one.net * one.orders for one in own),
        )
        for currency, own in sorted(found.items())
    ]


def report_in(to: str, sales: Iterable[Sale], rates: RateTable) -> Reported:
    """Return what ``sales`` come to in the currency ``to``."""
    orders = gross = net = 0
    missing: dict[tuple[str, date], list[Sale]] = defaultdict(list)
    for sale in sales:
        own_gross = rates.convert(sale.total, sale.currency, to, sale.placed_at)
        own_net = rates.convert(sale.net, sale.currency, to, sale.placed_at)
        if own_gross is None or own_net is None:
            missing[sale.currency, find_day(sale.placed_at)].append(sale)
            continue
        orders += sale.orders if sale.net > 0 else 0
        gross += own_gross * sale.orders
        net += own_net * sale.orders
    if not missing:
        return Reported(to, Sums(to, orders, gross, gross - net, net), ())
    return Reported(to, None, [_show_lack(*one) for one in sorted(missing.items())])


def _show_lack(place: tuple[str, date], sales: list[Sale]) -> MissingRate:
    named = sorted(sale.order_id for sale in sales if sale.order_id)
    return MissingRate(*place, sum(sale.orders for sale in sales), named[:_MOST_NAMED])


# ── Shapes ──────────────────────────────────────────────────────────────────────────────────────


def show_money(amount: int | None, currency: str) -> dict[str, Any] | None:
    """Return money as it is written; ``None`` for none."""
    return None if amount is None else {"amount": amount, "currency": currency}


def show_sums(sums: Sums) -> dict[str, Any]:
    """Return the sums in one currency."""
    return {
        "currency": sums.currency,
        "orders": sums.orders,
        "gross": show_money(sums.gross, sums.currency),
        "refunded": show_money(sums.refunded, sums.currency),
        "net": show_money(sums.net, sums.currency),
        "average": show_money(sums.average, sums.currency),
    }


def show_reported(reported: Reported) -> dict[str, Any]:
    """Return the figures in the reporting currency, null when rates are missing, and which are."""
    return {
        "reporting_currency": reported.currency,
        "reporting": None if reported.sums is None else show_sums(reported.sums),
        "missing_rates": [
            {
                "currency": one.currency,
                "to": reported.currency,
                "date": one.day.isoformat(),
                "orders": one.orders,
                "order_ids": one.order_ids,
            }
            for one in reported.missing[:_MOST_MISSING]
        ],
    }
