"""What a person's orders come to, point by point."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from cdp.orders.figures import find_gap, show_figures
from cdp.orders.order_words import Line, Order
from cdp.rates import Rate, RateTable

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
RATES = RateTable([Rate("USD", "CNY", date(2026, 3, 1), Decimal("7.125"))])
TEA = Line("tea", "Tea", "drinks", 3, 1_000)
CUP = Line("cup", "Cup", "kitchen", 1, 5_000)


def order(days: float, total: int, currency: str = "CNY", refunded: int = 0, **said: Any) -> Order:
    """An order placed so many days ago."""
    at = NOW - timedelta(days=days)
    fields: dict[str, Any] = {
        "status": "paid", "discount": None, "tax": None, "shipping": None, "store": None,
        "channel": None, "lines": (), "refunds": (), **said,
    }  # fmt: skip
    return Order(
        order_id=f"o{days}", currency=currency, total=total, refunded=refunded, placed_at=at,
        updated_at=at, **fields,
    )  # fmt: skip


def figures(*orders: Order, rates: RateTable = RATES) -> dict[str, Any]:
    found = sorted(orders, key=lambda one: one.placed_at)
    return show_figures(found, "CNY", rates, NOW, 10)


def cny(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "CNY"}


def test_money_is_shown_per_currency_and_in_the_reporting_currency() -> None:
    found = figures(order(1, 10_000), order(2, 101, "USD", 50))

    assert [row["currency"] for row in found["by_currency"]] == ["CNY", "USD"]
    assert found["by_currency"][1]["net"] == {"amount": 51, "currency": "USD"}
    # 0.51 USD are 3.63375 CNY; 1.01 USD are 7.19625.
    assert found["reporting"] == {
        "currency": "CNY", "orders": 2, "gross": cny(10_720), "refunded": cny(357),
        "net": cny(10_363), "average": cny(5_182),
    }  # fmt: skip


def test_each_order_is_rounded_once_half_to_the_even_unit() -> None:
    half = RateTable([Rate("USD", "CNY", date(2026, 3, 1), Decimal("0.5"))])
    found = figures(order(1, 1, "USD"), order(2, 3, "USD"), order(3, 3, "USD"), rates=half)

    assert found["reporting"]["net"] == cny(0 + 2 + 2)


def test_one_order_without_a_rate_makes_the_figure_absent_and_is_named() -> None:
    found = figures(order(1, 10_000), order(40, 100, "USD"))

    assert found["reporting"] is None
    assert found["missing_rates"] == [
        {
            "currency": "USD", "to": "CNY", "date": "2026-02-19", "orders": 1,
            "order_ids": ["o40"],
        }
    ]  # fmt: skip
    assert found["by_currency"][1]["net"] == {"amount": 100, "currency": "USD"}


def test_a_refund_takes_from_the_money_and_a_full_one_takes_the_order() -> None:
    found = figures(order(1, 100, refunded=40), order(2, 100, refunded=100), order(3, 0))

    assert (found["orders"], found["fully_refunded_orders"]) == (1, 2)
    assert found["reporting"]["gross"] == cny(200)
    assert found["reporting"]["refunded"] == cny(140)
    assert found["reporting"]["average"] == cny(60)


def test_a_refund_that_names_no_order_is_taken_off() -> None:
    found = figures(order(1, 100), order(2, 0, refunded=30, status="returned"))

    assert found["orders"] == 1
    assert found["reporting"]["net"] == cny(70)


def test_who_bought_nothing_has_no_average_and_no_times() -> None:
    found = figures()

    assert found["orders"] == 0
    assert found["reporting"]["average"] is None
    assert found["first_order_at"] is found["last_order_at"] is found["days_between"] is None


def test_the_days_between_are_the_median_of_the_own_gaps() -> None:
    times = [NOW - timedelta(days=days) for days in (100, 90, 70, 69)]

    assert find_gap(times) == 10
    assert find_gap(times[:1]) is None


def test_orders_of_the_future_are_counted_apart() -> None:
    found = figures(order(-1, 500), order(5, 100), order(10, 100))

    assert found["future_orders"] == 1
    assert found["reporting"]["net"] == cny(200)
    assert (found["orders"], found["days_since_last"]) == (2, 5)


def test_what_they_buy_most_is_told_by_pieces_and_by_money() -> None:
    found = figures(order(1, 8_000, lines=(TEA, CUP)), order(2, 3_000, lines=(TEA,)))
    by_pieces, by_money = found["items"]["by_quantity"], found["items"]["by_amount"]

    assert [row["sku"] for row in by_pieces] == ["tea", "cup"]
    assert by_pieces[0] == {
        "sku": "tea", "name": "Tea", "category": "drinks", "orders": 2, "quantity": 6,
        "quantity_share": 0.8571, "amount": cny(6_000), "amount_share": 0.5455,
    }  # fmt: skip
    assert [row["amount_share"] for row in by_money] == [0.5455, 0.4545]
    assert [row["category"] for row in found["categories"]["by_amount"]] == ["drinks", "kitchen"]


def test_without_rates_things_are_told_in_their_own_currency_or_by_pieces_alone() -> None:
    dollars = order(50, 3_000, "USD", lines=(TEA,))
    alone = figures(dollars)["items"]["by_amount"]
    mixed = figures(dollars, order(1, 5_000, lines=(CUP,)))["items"]

    assert alone[0]["amount"] == {"amount": 3_000, "currency": "USD"}
    assert mixed["by_amount"] == []
    assert mixed["by_quantity"][0]["amount"] is None
