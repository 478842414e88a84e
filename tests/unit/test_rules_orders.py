"""Rules over orders, point by point: what they mean, and which mistakes are refused where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.errors import Unprocessable
from cdp.segments.evaluate import aggregate_value, evaluate
from cdp.segments.parse import parse_aggregate, parse_rule
from tests.support.rule_world import OrderRow, connect, facts, load, members, person, tag_values

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
SUM = {"aggregate": {"fn": "sum", "property": "total"}}


def order(number: int, total: int, currency: str = "CNY", **fields: Any) -> OrderRow:
    """An order placed ``number`` days ago."""
    return OrderRow(str(number), NOW - timedelta(days=number), currency, total, **fields)


def holds(document: dict[str, Any], *orders: OrderRow) -> bool:
    """Whether the rule holds for who has ``orders``; the evaluator and DuckDB must agree."""
    rule, someone = parse_rule(document), person(orders=orders)
    with connect() as duck:
        load(duck, [someone])
        found = members(duck, rule, NOW)
    meant = evaluate(rule, facts(someone), NOW)
    assert found == ([0] if meant else [])
    return meant


def figure(aggregate: dict[str, Any], *orders: OrderRow) -> Any:
    """The value of a tag for who has ``orders``."""
    rule, someone = parse_aggregate(aggregate), person(orders=orders)
    with connect() as duck:
        load(duck, [someone])
        found = tag_values(duck, rule, NOW).get(0)
    assert found == aggregate_value(rule, facts(someone), NOW)
    return found


def over(*where: Any, **more: Any) -> dict[str, Any]:
    return {"orders": {"where": list(where)}, **more}


def field(name: str, op: str, value: Any = None) -> dict[str, Any]:
    return {"property": name, "op": op} | ({} if value is None else {"value": value})


TEA = {"sku": "tea", "category": "food", "quantity": 2.0, "price": 1_000, "total": 2_000}
CUP = {"sku": "cup", "category": "kitchen", "quantity": 1.0, "price": 5_000, "total": 5_000}


def test_14_conditions_on_lines_hold_for_the_same_line() -> None:
    both = order(1, 7_000, lines=[TEA, CUP])
    assert holds(over(field("line.sku", "eq", "tea"), field("line.category", "eq", "food")), both)
    crossed = over(field("line.sku", "eq", "tea"), field("line.category", "eq", "kitchen"))
    assert not holds(crossed, both)
    assert holds(over(field("line.sku", "ne", "tea")), both)
    assert not holds(over(field("line.sku", "ne", "tea")), order(1, 2_000, lines=[TEA]))


def test_14_an_aggregate_over_a_line_field_takes_those_lines() -> None:
    both = order(1, 7_000, lines=[TEA, CUP])
    total = {"aggregate": {"fn": "sum", "property": "line.total"}}
    assert figure(over(**total), both) == 70
    assert figure(over(field("line.sku", "eq", "tea"), **total), both) == 20


def test_15_count_compares_the_number_of_orders_not_of_lines() -> None:
    both = order(1, 7_000, lines=[TEA, TEA])
    one = {"count": {"op": "eq", "value": 1}}
    assert holds(over(field("line.sku", "eq", "tea"), **one), both)
    assert holds(over(count={"op": "lt", "value": 3}))


def test_17_first_and_last_go_by_time_then_order_id() -> None:
    at = NOW - timedelta(days=1)
    same = [OrderRow("b", at, total=200), OrderRow("a", at, total=100)]
    assert figure(over(aggregate={"fn": "last", "property": "total"}), *same) == 2
    assert figure(over(aggregate={"fn": "first", "property": "total"}), *same) == 1


def test_19_an_order_counts_when_it_was_placed_and_not_before() -> None:
    recent = {"within": {"last": "30d"}}
    assert holds(over(**recent), order(29, 100))
    assert not holds(over(**recent), order(30, 100))
    assert not holds(over(), order(-1, 100))


def test_19_a_fully_refunded_order_is_seen_with_total_0() -> None:
    back = order(1, 10_000, refunded=10_000, texts={"status": "returned"})
    assert holds(over(), back)
    assert holds(over(field("total", "eq", 0)), back)
    assert not holds(over(field("status", "ne", "returned")), back)


def test_20_money_is_a_decimal_in_the_orders_own_currency() -> None:
    hundred = over(field("total", "gte", 100))
    assert holds(hundred, order(1, 10_000))
    assert not holds(hundred, order(1, 9_999))
    assert holds(hundred, order(1, 100, "JPY"))
    assert holds(hundred, order(1, 100_000, "KWD"))
    assert holds(over(field("total", "eq", 19.99)), order(1, 1_999))


def test_20_total_is_net_of_refunds() -> None:
    assert not holds(over(field("total", "gte", 100)), order(1, 10_000, refunded=1))


@pytest.mark.parametrize("op", ["eq", "ne", "gte", "lte"])
def test_20_a_money_object_only_matches_its_own_currency(op: str) -> None:
    money = {"amount": 10_000, "currency": "usd"}
    assert not holds(over(field("total", op, money)), order(1, 10_000, "CNY"))
    assert holds(over(field("total", op, money)), order(1, 10_000, "USD")) == (op != "ne")


def test_20_what_is_in_several_currencies_has_no_sum() -> None:
    mixed = [order(1, 100), order(2, 100, "USD")]
    assert figure(over(**SUM), *mixed) is None
    assert not holds(over(**SUM, op="gte", value=0), *mixed)
    assert holds(over(**SUM, op="not_exists"), *mixed)
    only_yuan = over(field("currency", "eq", "CNY"), **SUM)
    assert figure(only_yuan, *mixed) == 1
    quantity = {"aggregate": {"fn": "sum", "property": "line.quantity"}}
    mixed = [order(1, 100, lines=[TEA]), order(2, 100, "USD", lines=[TEA])]
    assert figure(over(**quantity), *mixed) == 4


def test_20_a_figure_compares_with_money_of_its_currency() -> None:
    enough = {"op": "gte", "value": {"amount": 20_000, "currency": "CNY"}}
    assert holds(over(**SUM, **enough), order(1, 10_000), order(2, 10_000))
    assert not holds(over(**SUM, **enough), order(1, 20_000, "USD"))
    last = {"aggregate": {"fn": "last", "property": "total"}}
    assert holds(over(**last, **enough), order(1, 20_000), order(2, 20_000, "USD"))


def test_30_amounts_in_another_currency_are_passed_over_in_lists() -> None:
    listed = [{"amount": 100, "currency": "USD"}, {"amount": 200, "currency": "CNY"}, 3]
    assert holds(over(field("total", "in", listed)), order(1, 200))
    assert holds(over(field("total", "in", listed)), order(1, 300))
    assert not holds(over(field("total", "in", listed)), order(1, 100))
    assert holds(over(field("total", "not_in", listed)), order(1, 100))
    only_usd = [{"amount": 100, "currency": "USD"}]
    assert not holds(over(field("total", "not_in", only_usd)), order(1, 100))
    between = [{"amount": n, "currency": "CNY"} for n in (100, 200)]
    assert holds(over(field("total", "between", between)), order(1, 200))
    assert not holds(over(field("total", "between", between)), order(1, 200, "USD"))


def test_33_without_a_rate_an_amount_is_only_worth_itself() -> None:
    into_yuan = {"aggregate": {"fn": "sum", "property": "total", "currency": "CNY"}}
    assert figure(over(**into_yuan), order(1, 100), order(2, 200)) == 3
    assert figure(over(**into_yuan), order(1, 100), order(2, 200, "USD")) is None


@pytest.mark.parametrize(
    ("document", "code", "path"),
    [
        ({"orders": []}, "bad_value", "/rule/orders"),
        ({"orders": {"within": {}}}, "unknown_key", "/rule/orders/within"),
        ({"orders": {}, "where": []}, "unknown_key", "/rule/where"),
        (over(field("colour", "exists")), "unknown_field", "/rule/orders/where/0/property"),
        (over(field("line", "exists")), "unknown_field", "/rule/orders/where/0/property"),
        (over(field("line.colour", "exists")), "unknown_field", "/rule/orders/where/0/property"),
        (over(field("total", "gte")), "missing_part", "/rule/orders/where/0/value"),
        (over(field("total", "near", 1)), "unknown_op", "/rule/orders/where/0/op"),
        (
            over(field("total", "gte", {"amount": 1.5, "currency": "CNY"})),
            "bad_value", "/rule/orders/where/0/value/amount",
        ),
        (
            over(field("total", "gte", {"amount": 1, "currency": "XXQ"})),
            "bad_value", "/rule/orders/where/0/value/currency",
        ),
        (
            over(field("total", "contains", {"amount": 1, "currency": "CNY"})),
            "bad_value", "/rule/orders/where/0/value",
        ),
        (
            over(field("status", "eq", {"amount": 1, "currency": "CNY"})),
            "bad_value", "/rule/orders/where/0/value",
        ),
        (
            over(field("total", "between", [{"amount": 1, "currency": "CNY"}, 5])),
            "bad_value", "/rule/orders/where/0/value",
        ),
        (over(count={"op": "gte", "value": 1}, **SUM), "two_forms", "/rule"),
        (over(**SUM), "missing_part", "/rule/op"),
        (
            over(aggregate={"fn": "sum", "property": "colour"}, op="exists"),
            "unknown_field", "/rule/aggregate/property",
        ),
        (
            over(aggregate={"fn": "last", "property": "total", "currency": "CNY"}, op="exists"),
            "bad_value", "/rule/aggregate/currency",
        ),
        (
            over(aggregate={"fn": "days_since_last", "currency": "CNY"}, op="exists"),
            "bad_value", "/rule/aggregate/currency",
        ),
    ],
)  # fmt: skip
def test_24_a_mistake_is_refused_with_its_place(document: Any, code: str, path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse_rule(document)
    assert (refused.value.code, refused.value.details["path"]) == (code, path)


def test_a_tags_aggregate_over_orders_has_no_comparison() -> None:
    parse_aggregate(over(**SUM))
    with pytest.raises(Unprocessable) as refused:
        parse_aggregate(over(op="eq", value=1))
    assert refused.value.details["path"] == "/definition/aggregate/op"


def test_events_know_no_conversion() -> None:
    aggregate = {"fn": "sum", "property": "x", "currency": "CNY"}
    with pytest.raises(Unprocessable):
        parse_rule({"event": "E", "aggregate": aggregate, "op": "exists"})
