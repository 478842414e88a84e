"""A posted order: what is read of it, and why one is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.orders.order_record import OrderRecord, read_order
from cdp.posted_record import Refusal

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHOLE = {
    "order_id": 1001,
    "placed_at": "2026-02-28T10:00:00Z",
    "updated_at": "2026-03-01T10:00:00Z",
    "identifiers": [{"type": "email", "value": "Ann@example.com"}, {"type": "user_id", "value": 7}],
    "status": "paid",
    "currency": "cny",
    "total": 1299.00,
    "discount": {"amount": 100, "currency": "CNY"},
    "store": "上海",
    "lines": [{"sku": "a", "quantity": 2, "price": "649.50"}],
    "refunds": [{"refund_id": "r1", "at": "2026-03-02T00:00:00Z", "amount": 9.99}],
}


def read(document: Any, place: str = "here") -> OrderRecord | Refusal:
    return read_order(document, place=place, received_at=NOON, default_currency="CNY")


def accept(**fields: Any) -> OrderRecord:
    found = read({"order_id": "1", **fields})
    assert isinstance(found, OrderRecord), found
    return found


def test_a_whole_order_is_read_to_the_minor_unit() -> None:
    found = read(WHOLE)
    assert isinstance(found, OrderRecord)
    report = found.report
    assert (report.order_id, report.currency, report.total) == ("1001", "CNY", 129_900)
    assert (report.discount, report.lines[0].total, report.refunds[0].amount) == (100, 129_900, 999)
    assert found.claims == (("email", "Ann@example.com"), ("user_id", 7))
    assert found.seen_at == datetime(2026, 2, 28, 10, tzinfo=UTC)


def test_the_same_version_has_the_same_message_id_whatever_its_keys_order() -> None:
    turned = dict(reversed(list(WHOLE.items())))
    first, second = read(WHOLE, "one"), read(turned, "two")
    assert isinstance(first, OrderRecord)
    assert isinstance(second, OrderRecord)
    assert first.report.message_id == second.report.message_id


def test_an_order_without_updated_at_is_another_version_each_time_it_comes() -> None:
    ids = {
        found.report.message_id
        for place in ("one", "two")
        if isinstance(found := read({"order_id": "1"}, place), OrderRecord)
    }
    assert len(ids) == 2


def test_lines_without_a_quantity_count_once_and_make_the_total() -> None:
    found = accept(lines=[{"price": 5}, {"price": 5, "quantity": None}, {"sku": "free"}])
    assert found.report.total == 1_000


@pytest.mark.parametrize("written", [1772362800, 1772362800.0, 1772362800000, "1772362800"])
def test_times_may_be_numbers_as_those_of_events(written: object) -> None:
    refund = {"refund_id": "r", "at": written, "amount": 1}
    found = accept(placed_at=written, updated_at=written, total=1, refunds=[refund])
    eleven = NOON - timedelta(hours=1)
    assert (found.report.at, found.report.placed_at) == (eleven, eleven)
    assert found.report.refunds[0].at == eleven


def test_a_version_dated_in_the_far_future_is_as_old_as_its_receipt() -> None:
    far = accept(updated_at="2099-01-01T00:00:00Z", placed_at="9999-12-31T23:59:59Z")
    assert (far.report.at, far.report.placed_at) == (NOON, NOON)
    soon = NOON + timedelta(hours=23)
    assert accept(updated_at=soon.isoformat()).report.at == soon


def test_an_order_may_bring_the_id_of_its_version() -> None:
    named = [accept(messageId=f"row-{n}", total=1).report.message_id for n in (1, 1, 2)]
    assert named == ["order-row-1", "order-row-1", "order-row-2"]
    refused = read({"order_id": "1", "messageId": ["m"]})
    assert isinstance(refused, Refusal)
    assert refused.code == "invalid_message_id"


def test_an_order_placed_in_the_far_future_names_people_as_of_its_receipt() -> None:
    assert accept(placed_at="2027-01-01T00:00:00Z").seen_at == NOON
    soon = NOON + timedelta(hours=23)
    assert accept(placed_at=soon.isoformat()).seen_at == soon


@pytest.mark.parametrize("value", [None, [], [{"type": "email", "value": None}]])
def test_an_order_may_name_nobody(value: Any) -> None:
    assert accept(identifiers=value).claims == ()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"order_id": None}, "missing_order_id"),
        ({"order_id": 1.5}, "missing_order_id"),
        ({"total": "much"}, "invalid_money"),
        ({"total": {"amount": 1, "currency": "USD"}}, "invalid_money"),
        ({"currency": "XXQ"}, "unknown_currency"),
        ({"updated_at": "yesterday"}, "invalid_time"),
        ({"updated_at": True}, "invalid_time"),
        ({"lines": {"sku": "a"}}, "invalid_lines"),
        ({"lines": [{"quantity": "two"}]}, "invalid_lines"),
        ({"lines": [{"quantity": 1e300, "price": 1}]}, "invalid_lines"),
        ({"lines": [{"quantity": 1e9, "price": 1e9}]}, "invalid_lines"),
        ({"lines": [{"price": 1e13 - 1}] * 2}, "invalid_money"),
        ({"refunds": [{"amount": []}]}, "invalid_money"),
        ({"identifiers": "ann@example.com"}, "invalid_identifiers"),
        ({"identifiers": [{"value": "ann"}]}, "invalid_identifiers"),
        ({"identifiers": [{"type": "user_id", "value": 1.5}]}, "invalid_identifiers"),
        ({"identifiers": [{"type": "user_id", "value": True}]}, "invalid_identifiers"),
        ({"identifiers": [{"type": "user_id", "value": "x" * 513}]}, "invalid_identifiers"),
    ],
)
def test_a_mistake_is_refused_with_its_code(fields: dict[str, Any], code: str) -> None:
    found = read({"order_id": "1", **fields})
    assert isinstance(found, Refusal)
    assert found.code == code


@pytest.mark.parametrize("document", [None, [], "1001", 7])
def test_what_is_no_object_is_no_order(document: Any) -> None:
    assert read(document) == Refusal("invalid_order", "an order is a JSON object")
