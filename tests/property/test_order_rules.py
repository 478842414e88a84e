"""Whatever the orders and the rule over them: the SQL selects exactly those for whom it holds.

Dense random worlds from one seed: few values, so that most rules hold for some and not for others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cdp.segments.evaluate import aggregate_value, evaluate, explain
from cdp.segments.order_fields import LINE_FIELDS, ORDER_FIELDS, find_type
from cdp.segments.parse import parse_aggregate, parse_rule
from cdp.segments.rules import FUNCTIONS, NUMBER_FUNCTIONS
from tests.support.rule_world import Node, OrderRow, Person, connect, facts, load, members
from tests.support.rule_world import tag_values as read_tag_values

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
TEXTS = ("a", "b", "paid", "", "茶", "42", "2026-03-01")
CURRENCIES = ("CNY", "CNY", "USD", "JPY", "KWD")
AMOUNTS = (0, 1, 99, 100, 1_000, 129_900, 5, -100, 10**15)
DECIMALS = (0, 0.01, 0.99, 1, 10, 1299.0, 100, 0.001, -1)
PATHS = (*ORDER_FIELDS, *(f"line.{name}" for name in LINE_FIELDS))
SIMPLE_OPS = ("eq", "ne", "gt", "gte", "lt", "lte")


class Dice:
    """Draws people with orders, and rules over them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, *options: Any) -> Any:
        return self.random.choice(options)

    def some(self, most: int, draw: Any) -> list[Any]:
        return [draw() for _ in range(self.random.randint(0, most))]

    def maybe(self, names: Any, values: Any) -> dict[str, Any]:
        return {name: self.one(*values) for name in names if self.random.random() < 0.6}

    # ── People ──────────────────────────────────────────────────────────────────────────────────

    def person(self, currencies: tuple[str, ...]) -> Person:
        numbers = iter(self.random.sample(range(100, 200), 20))

        def order() -> OrderRow:
            return self.order(next(numbers), currencies)

        return Person([Node("user_id", str(n), orders=self.some(4, order)) for n in range(2)])

    def order(self, number: int, currencies: tuple[str, ...]) -> OrderRow:
        hours = self.one(0, 1, 24, 24 * 30, -5, 24 * 7, 24 * 365, self.random.randint(0, 9_000))
        return OrderRow(
            str(number),
            NOW - timedelta(hours=hours),
            self.one(*currencies),
            self.one(*AMOUNTS),
            self.one(0, 0, 1, 100),
            {"status": self.one(*TEXTS), **self.maybe(("store", "channel"), TEXTS)},
            self.maybe(("discount", "tax", "shipping"), AMOUNTS),
            self.some(3, self.line),
        )

    def line(self) -> dict[str, Any]:
        return {
            **self.maybe(("sku", "name", "category"), TEXTS),
            "quantity": self.one(1.0, 2.0, 0.5),
            **self.maybe(("price", "total"), AMOUNTS),
        }

    # ── Rules ───────────────────────────────────────────────────────────────────────────────────

    def scalar(self, kind: str | None) -> Any:
        """A value of the field's own type, mostly."""
        if self.random.random() < 0.15:
            return self.one(self.one(*TEXTS), self.one(*DECIMALS), True)
        return self.one(*TEXTS) if kind == "text" else self.one(*DECIMALS)

    def money(self) -> dict[str, Any]:
        return {"amount": self.one(*AMOUNTS), "currency": self.one(*CURRENCIES)}

    def operand(self, kind: str | None) -> Any:
        if kind == "money" and self.random.random() < 0.4:
            return self.money()
        return self.scalar(kind)

    def comparison(self, kind: str | None) -> dict[str, Any]:
        op = self.one(
            *SIMPLE_OPS, *SIMPLE_OPS, "between", "in", "not_in", "in", "not_in", "contains",
            "starts_with", "matches", "before", "within_last", "not_within_last", "exists",
            "not_exists",
        )  # fmt: skip
        if op in ("exists", "not_exists"):
            return {"op": op}
        value: Any = self.operand(kind)
        if op == "between":
            value = sorted(self.random.sample(DECIMALS, 2))
            if kind == "money" and self.random.random() < 0.5:
                currency = self.one(*CURRENCIES)
                found = sorted(self.random.sample(AMOUNTS, 2))
                value = [{"amount": amount, "currency": currency} for amount in found]
        elif op in ("in", "not_in"):
            value = self.some(self.one(3, 12), lambda: self.operand(kind))
        elif op in ("contains", "starts_with", "matches"):
            value = self.one("a", "p", "4")
        elif op == "before":
            value = "2026-03-15"
        elif op in ("within_last", "not_within_last"):
            value = self.one("7d", "2mo")
        return {"op": op, "value": value}

    def condition(self) -> dict[str, Any]:
        path = self.one(*PATHS)
        return {"property": path, **self.comparison(find_type(tuple(path.split("."))))}

    def orders(self) -> dict[str, Any]:
        where = self.some(self.one(0, 1, 2), self.condition)
        body: dict[str, Any] = {"orders": {"where": where} if where else {}}
        if self.random.random() < 0.4:
            body["within"] = self.one(
                {"last": self.one("1h", "1d", "7d", "1mo", "1y")},
                {"since": "2026-03-01"},
                {"between": ["2026-01-01", "2026-03-31T11:00:00Z"]},
                {"calendar": self.one("month", "year"), "offset": self.one(0, -1)},
            )
        return body

    def aggregate(self) -> dict[str, Any]:
        function = self.one(*FUNCTIONS, *NUMBER_FUNCTIONS)
        if function.startswith("days"):
            return {"fn": function}
        path = self.one(*PATHS, "total", "total", "line.total")
        converted = {}
        is_money = find_type(tuple(path.split("."))) == "money"
        if function in NUMBER_FUNCTIONS and is_money and self.random.random() < 0.3:
            converted = {"currency": self.one(*CURRENCIES)}
        return {"fn": function, "property": path, **converted}

    def rule(self) -> dict[str, Any]:
        roll = self.random.random()
        if roll < 0.3:
            return self.orders()
        if roll < 0.5:
            op = self.one(*SIMPLE_OPS)
            return {**self.orders(), "count": {"op": op, "value": self.one(0, 1, 2)}}
        aggregate = self.aggregate()
        kind = find_type(tuple(aggregate.get("property", "").split(".")))
        if kind == "money" and aggregate["fn"] not in {*NUMBER_FUNCTIONS, "first", "last"}:
            kind = "number"
        leaf = {**self.orders(), "aggregate": aggregate, **self.comparison(kind)}
        return self.one(leaf, leaf, {"not": leaf}, {"all": [leaf, self.orders()]})  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


PHASES = tuple(p for p in Phase if p is not Phase.shrink)
SEEDED = settings(max_examples=25, deadline=None, phases=PHASES)


def make_world(duck: duckdb.DuckDBPyConnection, dice: Dice) -> list[Person]:
    some_currencies = dice.one(CURRENCIES, ("CNY",), ("CNY", "USD"))
    found = [dice.person(some_currencies) for _ in range(30)]
    load(duck, found, range(0, 30, 3))
    return found


@SEEDED
@given(st.integers(0, 2**32))
def test_the_sql_selects_exactly_those_for_whom_the_rule_over_orders_holds(
    duck: duckdb.DuckDBPyConnection, seed: int
) -> None:
    dice = Dice(seed)
    told = [facts(someone) for someone in make_world(duck, dice)]
    for _ in range(20):
        document = dice.rule()
        rule = parse_rule(document)
        expected = [number for number, one in enumerate(told) if evaluate(rule, one, NOW)]
        assert members(duck, rule, NOW) == expected, document
        inside = [number for number in expected if number % 3 == 0]
        assert members(duck, rule, NOW, scope=True) == inside, document
        assert explain(rule, told[0], NOW)["holds"] == (0 in expected)


@SEEDED
@given(st.integers(0, 2**32))
def test_a_tag_has_the_value_that_the_aggregate_over_orders_means(
    duck: duckdb.DuckDBPyConnection, seed: int
) -> None:
    dice = Dice(seed)
    told = [facts(someone) for someone in make_world(duck, dice)]
    for _ in range(20):
        figure = dice.one({"aggregate": dice.aggregate()}, {})
        document = {**dice.orders(), **figure}
        rule = parse_aggregate(document)
        values = {n: aggregate_value(rule, one, NOW) for n, one in enumerate(told)}
        expected = {number: value for number, value in values.items() if value is not None}
        assert read_tag_values(duck, rule, NOW) == expected, document
