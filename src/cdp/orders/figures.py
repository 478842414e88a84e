"""What a person's orders come to: sums, times, rhythm, and what they buy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from cdp.orders.affinity import find_affinity, show_affinity
from cdp.orders.order_words import Order
from cdp.rates import RateTable
from cdp.revenue import Sale, report_in, show_reported, show_sums, sum_by_currency
from cdp.runtime.clock import format_time

_SECONDS_A_DAY = 86_400


def list_sales(orders: Iterable[Order]) -> list[Sale]:
    """Return what the sums are made of."""
    return [Sale(o.currency, o.placed_at, o.total, o.refunded, 1, o.order_id) for o in orders]


def show_figures(
    orders: Sequence[Order], to: str, rates: RateTable, now: datetime, top: int
) -> dict[str, Any]:
    """Return the figures of a person's orders, which come oldest first, as of ``now``.

    An order counts with something left after refunds, as in the profile's ``orders``; money of
    all of them is in the sums. Orders that are placed later than ``now`` are only counted.
    """
    seen = [order for order in orders if order.placed_at <= now]
    counted = [order for order in seen if order.net > 0]
    sales = list_sales(seen)
    return {
        "orders": len(counted),
        "first_order_at": _show_time(counted[0]) if counted else None,
        "last_order_at": _show_time(counted[-1]) if counted else None,
        "days_since_last": _count_days(counted[-1].placed_at, now) if counted else None,
        "days_between": find_gap([order.placed_at for order in counted]),
        "by_currency": [show_sums(sums) for sums in sum_by_currency(sales)],
        **show_reported(report_in(to, sales, rates)),
        **show_affinity(find_affinity(counted, to, rates), top),
        "fully_refunded_orders": len(seen) - len(counted),
        "future_orders": len(orders) - len(seen),
    }


def find_gap(times: Sequence[datetime]) -> float | None:
    """Return the median of the days between one order and the next, to two places; ``None`` when

    there are not two. ``times`` are in order."""
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    return round(median(gaps) / _SECONDS_A_DAY, 2) if gaps else None


def _count_days(time: datetime, now: datetime) -> int:
    return int((now - time).total_seconds() // _SECONDS_A_DAY)


def _show_time(order: Order) -> str:
    return format_time(order.placed_at)
