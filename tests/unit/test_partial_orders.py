"""Partial records of orders: they say what they name, and leave the rest of the order alone."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from cdp.orders.order import Report, fold_reports
from cdp.orders.read_report import read_event, read_record
from cdp.posted_record import Refusal

RECEIVED = datetime(2026, 4, 1, tzinfo=UTC)


def record(message_id: str, day: int, **fields: Any) -> Report:
    document = {"order_id": "1", "updated_at": f"2026-03-{day:02d}T00:00:00Z", **fields}
    read = read_record(
        document, message_id=message_id, received_at=RECEIVED, default_currency="EUR"
    )
    assert isinstance(read, Report), read
    return read


def partial(message_id: str, day: int, **fields: Any) -> Report:
    return record(message_id, day, partial=True, **fields)


WHOLE = record(
    "w",
    2,
    currency="KWD",
    total="12.345",
    status="paid",
    lines=[{"sku": "tea", "quantity": 1, "price": "12.345"}],
)


def test_a_refund_leaves_lines_total_and_status_alone() -> None:
    refund = partial("r", 3, currency="KWD", refunds=[{"refund_id": "a", "amount": "2.005"}])
    order = fold_reports([WHOLE, refund], "EUR")
    assert (order.total, order.refunded, order.status) == (12345, 2005, "paid")
    assert order.lines == WHOLE.lines
    assert order.updated_at == refund.at


def test_a_refund_told_alone_and_again_with_the_order_is_one_refund() -> None:
    refund = [{"refund_id": "a", "amount": "2.005"}]
    alone = partial("r", 3, currency="KWD", refunds=refund)
    whole = record("w2", 4, currency="KWD", total="12.345", status="paid", refunds=refund)
    assert fold_reports([WHOLE, alone, whole], "EUR").refunded == 2005


def test_an_older_refund_counts_beside_a_newer_order_that_names_none() -> None:
    alone = partial("r", 1, currency="KWD", refunds=[{"refund_id": "a", "amount": "2.005"}])
    assert fold_reports([WHOLE, alone], "EUR").refunded == 2005


def test_a_refund_of_all_of_it_returns_the_order() -> None:
    everything = partial("r", 3, currency="KWD", refunds=[{"refund_id": "a", "amount": "12.345"}])
    assert fold_reports([WHOLE, everything], "EUR").status == "returned"


def test_a_status_counts_unless_a_newer_order_says_another() -> None:
    closed = partial("c", 3, status="cancelled")
    assert fold_reports([WHOLE, closed], "EUR").status == "cancelled"
    later = record("w2", 4, currency="KWD", total="12.345", status="completed")
    assert fold_reports([WHOLE, closed, later], "EUR").status == "completed"


def test_what_came_first_and_alone_is_an_order_worth_nothing() -> None:
    alone = partial("r", 3, currency="KWD", refunds=[{"refund_id": "a", "amount": "2.005"}])
    order = fold_reports([alone], "EUR")
    assert (order.total, order.refunded, order.status) == (0, 2005, "returned")
    assert order.currency == "KWD"


def test_a_refund_by_record_outranks_that_of_an_event() -> None:
    events = [
        read_event(name, properties, at=RECEIVED, message_id=name)
        for name, properties in (
            ("Order Completed", {"order_id": "1", "total": 100}),
            ("Order Refunded", {"order_id": "1", "total": 30}),
        )
    ]
    told = [event for event in events if event is not None]
    alone = partial("r", 3, currency="CNY", refunds=[{"refund_id": "a", "amount": 30}])
    order = fold_reports([*told, alone], "CNY")
    assert (order.total, order.refunded) == (10000, 3000)


def test_money_in_another_currency_than_the_orders_is_left_out() -> None:
    foreign = partial("r", 3, currency="USD", refunds=[{"refund_id": "a", "amount": 5}])
    assert fold_reports([WHOLE, foreign], "EUR").refunded == 0


def test_a_partial_record_with_amounts_must_name_their_currency() -> None:
    document = {"order_id": "1", "partial": True, "refunds": [{"refund_id": "a", "amount": 5}]}
    read = read_record(document, message_id="m", received_at=RECEIVED, default_currency="CNY")
    assert isinstance(read, Refusal)
    assert read.code == "missing_currency"


@pytest.mark.parametrize("repeated", [False, True])
def test_any_order_of_arrival_gives_the_same_order(repeated: bool) -> None:
    told = [
        WHOLE,
        record("w2", 4, currency="KWD", total="10.000", refunds=[{"refund_id": "b", "amount": 1}]),
        partial("r1", 3, currency="KWD", refunds=[{"refund_id": "a", "amount": "2.005"}]),
        partial("r2", 5, currency="KWD", refunds=[{"refund_id": "b", "amount": 2}]),
        partial("c", 5, status="completed"),
    ]
    expected = fold_reports(told, "EUR")
    assert (expected.total, expected.refunded, expected.status) == (10000, 4005, "completed")
    for shuffled in permutations(told):
        assert fold_reports([*shuffled, *(shuffled if repeated else ())], "EUR") == expected
