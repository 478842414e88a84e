"""What somebody buys most: items and categories by pieces and by money, with their shares. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cdp.orders.order_words import Line, Order
from cdp.rates import RateTable
from cdp.revenue import show_money


@dataclass(slots=True)
class Tally:
    """What was bought of one thing."""

    key: str
    name: str | None = None
    category: str | None = None
    quantity: float = 0
    amount: int = 0
    order_ids: set[str] = field(default_factory=set)


class Affinity(NamedTuple):
    """Everything that was bought, thing by thing; ``currency`` is that of the amounts."""

    items: Sequence[Tally]
    categories: Sequence[Tally]
    currency: str | None
    """``None``: the amounts are of several currencies, and there are no rates."""


def find_affinity(orders: Sequence[Order], to: str, rates: RateTable) -> Affinity:
    """Return what ``orders`` are made of, in the currency ``to``.

    Where rates are missing it is in their own currency, if they have one. A line counts at its
    price times its quantity: what was refunded of an order names no line.
    """
    currency = _choose_currency(orders, to, rates)
    items: dict[str, Tally] = {}
    categories: dict[str, Tally] = {}
    for order in orders:
        for line in order.lines:
            amount = _find_amount(order, line, currency, rates)
            key = line.sku or line.name
            if key is not None:
                _count(items, key, order, line, amount)
            if line.category is not None:
                _count(categories, line.category, order, line, amount)
    return Affinity(list(items.values()), list(categories.values()), currency)


def _choose_currency(orders: Sequence[Order], to: str, rates: RateTable) -> str | None:
    if all(rates.convert(0, one.currency, to, one.placed_at) is not None for one in orders):
        return to
    own = {order.currency for order in orders}
    return own.pop() if len(own) == 1 else None


def _find_amount(order: Order, line: Line, currency: str | None, rates: RateTable) -> int:
    if currency is None or line.total is None:
        return 0
    return rates.convert(line.total, order.currency, currency, order.placed_at) or 0


def _count(tallies: dict[str, Tally], key: str, order: Order, line: Line, amount: int) -> None:
    tally = tallies.setdefault(key, Tally(key))
    # Orders come oldest first: the newest name stays.
    tally.name, tally.category = line.name or tally.name, line.category or tally.category
    tally.quantity += line.quantity
    tally.amount += amount
    tally.order_ids.add(order.order_id)


def show_affinity(affinity: Affinity, top: int) -> dict[str, Any]:
    """Return the ``top`` items and categories by quantity and by amount, with their shares."""

    def rank(tallies: Sequence[Tally], named: Callable[[Tally], dict[str, Any]]) -> dict[str, Any]:
        quantity = sum(tally.quantity for tally in tallies)
        amount = sum(tally.amount for tally in tallies)

        def show(tally: Tally) -> dict[str, Any]:
            is_money = affinity.currency is not None
            return {
                **named(tally),
                "orders": len(tally.order_ids),
                "quantity": tally.quantity,
                "quantity_share": _share(tally.quantity, quantity),
                "amount": show_money(tally.amount, affinity.currency or "") if is_money else None,
                "amount_share": _share(tally.amount, amount) if is_money else None,
            }

        by_quantity = _take(tallies, top, lambda tally: (-tally.quantity, -tally.amount))
        by_amount = _take(tallies, top, lambda tally: (-tally.amount, -tally.quantity))
        return {
            "by_quantity": [show(tally) for tally in by_quantity],
            "by_amount": [show(tally) for tally in by_amount] if affinity.currency else [],
        }

    return {
        "items": rank(
            affinity.items, lambda t: {"sku": t.key, "name": t.name, "category": t.category}
        ),
        "categories": rank(affinity.categories, lambda t: {"category": t.key}),
    }


def _take(
    tallies: Iterable[Tally], top: int, place: Callable[[Tally], tuple[float, ...]]
) -> list[Tally]:
    return sorted(tallies, key=lambda tally: (*place(tally), tally.key))[:top]


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole > 0 else None
