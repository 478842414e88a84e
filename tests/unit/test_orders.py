"""Orders: what one report says, and what all of them amount to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from cdp.money import read_money, to_minor
from cdp.orders.order import Report, fold_reports
from cdp.orders.read_report import read_event, read_record
from cdp.posted_record import Refusal

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(updated: int = 0, message_id: str | None = None, **fields: Any) -> Report:
    document = {
        "order_id": 1001,
        "currency": "CNY",
        "updated_at": (NOON + timedelta(hours=updated)).isoformat(),
        **fields,
    }
    report = read_record(
        document,
        message_id=message_id or f"record-{updated}",
        received_at=NOON,
        default_currency="CNY",
    )
    assert isinstance(report, Report), report
    return report


def event(name: str, hours: int = 0, **properties: Any) -> Report:
    report = read_event(
        name,
        {"order_id": "1001", **properties},
        at=NOON + timedelta(hours=hours),
        message_id=f"{name}-{hours}",
    )
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        (1299.00, "CNY", 129900),
        (19.990000000000002, "CNY", 1999),
        ("0.1", "CNY", 10),
        (1500, "JPY", 1500),
        (1500.4, "JPY", 1500),
        ("1.2345", "KWD", 1235),
        ({"amount": 129900, "currency": "cny"}, "CNY", 129900),
        ({"amount": 129900, "currency": "USD"}, "CNY", None),
        (True, "CNY", None),
        ("a lot", "CNY", None),
        (1e300, "CNY", None),
        (-5, "CNY", -500),
        (1, "XXQ", None),
    ],
)
def test_money_is_read_exactly_or_not_at_all(value: Any, currency: str, minor: int | None) -> None:
    assert read_money(value, currency) == minor


def test_infinite_money_is_no_money() -> None:
    assert to_minor(Decimal("Infinity"), "CNY") is None


def test_the_newest_record_counts_whatever_arrived_last() -> None:
    order = fold_reports([record(2, total=90), record(1, total=100)], "CNY")
    assert (order.total, order.net) == (9000, 9000)


def test_a_record_outranks_an_event_whatever_the_time() -> None:
    order = fold_reports([event("Order Completed", 5, total=120), record(0, total=100)], "CNY")
    assert order.total == 10000


def test_an_order_told_by_shop_and_back_office_is_one_with_the_amount_of_the_back_office() -> None:
    shop = event("Order Completed", total=100, products=[{"sku": "a", "price": 100}])
    office = record(1, total=100, refunds=[{"refund_id": "r1", "amount": 30}])
    assert fold_reports([shop, office], "CNY").net == 7000


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_of_the_same_moment_the_update_counts_and_not_the_completion(
    first: str, second: str
) -> None:
    told = [event("Order Completed", total=1), event("Order Updated", total=2)]
    reports = [
        msgspec.structs.replace(report, message_id=message_id)
        for report, message_id in zip(told, (first, second), strict=True)
    ]
    assert fold_reports(reports, "CNY").total == 200


def test_refund_events_add_up_each_once() -> None:
    reports = [
        event("Order Completed", 0, revenue=100),
        event("Order Refunded", 1, total=30),
        event("Order Refunded", 2, total=20),
        event("Order Refunded", 2, total=20),
    ]
    assert fold_reports(reports, "CNY").net == 5000


def test_a_refund_event_without_an_amount_gives_everything_back() -> None:
    order = fold_reports([event("Order Completed", revenue=100), event("Order Refunded", 1)], "CNY")
    assert (order.net, order.status) == (0, "returned")


def test_a_refund_that_arrives_alone_waits_for_its_order() -> None:
    alone = fold_reports([event("Order Refunded", 1, total=30)], "CNY")
    assert (alone.total, alone.refunded, alone.status) == (0, 3000, "returned")
    whole = fold_reports(
        [event("Order Refunded", 1, total=30), event("Order Completed", total=100)], "CNY"
    )
    assert (whole.net, whole.status) == (7000, "completed")


def test_a_cancellation_counts_until_the_order_is_told_anew() -> None:
    done, cancelled = event("Order Completed", 0, total=1), event("Order Cancelled", 1)
    assert fold_reports([cancelled, done], "CNY").status == "cancelled"
    again = event("Order Updated", 2, total=1, status="paid")
    assert fold_reports([cancelled, again, done], "CNY").status == "paid"


def test_a_return_without_an_order_is_negative_revenue() -> None:
    order = fold_reports([record(0, status="returned", total=0, refunds=[{"amount": 50}])], "CNY")
    assert (order.net, order.status) == (-5000, "returned")


def test_the_time_of_an_order_is_placed_at_or_its_oldest_report() -> None:
    assert fold_reports([record(3), record(1)], "CNY").placed_at == NOON + timedelta(hours=1)
    placed = record(3, placed_at="2026-02-01T00:00:00+08:00")
    assert fold_reports([placed, record(1)], "CNY").placed_at == datetime(
        2026, 1, 31, 16, tzinfo=UTC
    )


def test_a_total_that_is_not_said_is_the_sum_of_the_lines() -> None:
    assert record(lines=[{"sku": "a", "price": 10, "quantity": 3}]).total == 3000


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ([], "invalid_order"),
        ({}, "missing_order_id"),
        ({"order_id": 1.5}, "missing_order_id"),
        ({"order_id": "1", "currency": "NOPE"}, "unknown_currency"),
        ({"order_id": "1", "total": "much"}, "invalid_money"),
        ({"order_id": "1", "updated_at": "soon"}, "invalid_time"),
        ({"order_id": "1", "lines": "none"}, "invalid_lines"),
        ({"order_id": "1", "lines": [{"price": "x"}]}, "invalid_money"),
        ({"order_id": "1", "refunds": [5]}, "invalid_refunds"),
    ],
)
def test_a_wrong_order_is_refused_with_its_reason(document: Any, code: str) -> None:
    refused = read_record(document, message_id="m", received_at=NOON, default_currency="CNY")
    assert isinstance(refused, Refusal)
    assert refused.code == code


def test_only_ecommerce_events_that_name_an_order_make_one() -> None:
    for name, properties in (("Order Completed", {}), ("Product Viewed", {"order_id": "1"})):
        assert read_event(name, properties, at=NOON, message_id="m") is None


def test_an_event_without_a_currency_speaks_of_the_orders() -> None:
    bought = event("Order Completed", total=1500, currency="JPY")
    order = fold_reports([bought, event("Order Refunded", hours=1, total=500)], "CNY")
    assert (order.currency, order.total, order.refunded) == ("JPY", 1500, 500)
    bought = event("Order Completed", total="9.995", currency="KWD")
    changed = event("Order Updated", hours=1, total="8.125", products=[{"price": "8.125"}])
    order = fold_reports([bought, changed], "CNY")
    assert (order.currency, order.total, order.lines[0].price) == ("KWD", 8125, 8125)


def test_of_an_order_without_any_currency_it_is_the_workspaces() -> None:
    told = [event("Order Completed", total=12.345), event("Order Refunded", hours=1, total=2.3)]
    for currency, total, refunded in (("CNY", 1235, 230), ("JPY", 12, 2), ("KWD", 12345, 2300)):
        order = fold_reports(told, currency)
        assert (order.currency, order.total, order.refunded) == (currency, total, refunded)


def test_a_money_object_names_the_currency_of_its_event() -> None:
    bought = event("Order Completed", total={"amount": 1234, "currency": "kwd"})
    order = fold_reports([bought], "CNY")
    assert (order.currency, order.total) == ("KWD", 1234)


def test_a_refund_in_another_currency_takes_nothing_away() -> None:
    bought = event("Order Completed", total=100, currency="USD")
    order = fold_reports(
        [bought, event("Order Refunded", hours=1, total=500, currency="JPY")], "CNY"
    )
    assert (order.currency, order.refunded, order.status) == ("USD", 0, "completed")


def test_a_refund_event_without_an_amount_is_worth_its_products() -> None:
    bought = event("Order Completed", total=100)
    part = event("Order Refunded", hours=1, products=[{"sku": "a", "price": 10, "quantity": 2}])
    assert fold_reports([bought, part], "CNY").refunded == 2_000


def test_refunds_are_told_apart_by_their_own_id() -> None:
    bought = event("Order Completed", total=100)
    told = [event("Order Refunded", hours=n, total=30, refund_id="r1") for n in (1, 2)]
    assert fold_reports([bought, *told], "CNY").refunded == 3_000


def test_two_sources_may_use_one_message_id() -> None:
    first, second = record(1, "m", total=10), record(2, "m", total=20)
    assert fold_reports([second, first], "CNY").total == 2_000
