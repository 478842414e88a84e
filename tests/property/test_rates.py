"""Converted money: what the rates say in decimals, and the same in DuckDB's whole numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.money import minor_digits
from cdp.rates import Rate, RateTable, as_ratio, read_rate
from cdp.segments.evaluate import aggregate_value, evaluate
from cdp.segments.parse import parse_aggregate, parse_rule
from tests.property.test_order_rules import Dice, make_world
from tests.support.rule_world import connect, facts, members, tag_values

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
CURRENCIES = ("CNY", "USD", "JPY", "KWD")
EXACT = Context(prec=200)

amounts = st.integers(-(10**15), 10**15) | st.integers(-1000, 1000)
rates = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(1, 10**15 - 1),
    st.integers(6, 15),
) | st.sampled_from([Decimal("0.5"), Decimal("0.005"), Decimal("7.1234"), Decimal(1)])
pairs = st.permutations(CURRENCIES).map(lambda order: (order[0], order[1]))


def meant(amount: int, ratio: Decimal, currency: str, to: str) -> int:
    """The amount by exact decimals, rounded once."""
    own = Decimal(amount).scaleb(-(minor_digits(currency) or 0), EXACT)
    product = EXACT.multiply(own, ratio)
    quantum = Decimal(1).scaleb(-(minor_digits(to) or 0))
    found = product.quantize(quantum, ROUND_HALF_EVEN, EXACT)
    return int(found.scaleb(minor_digits(to) or 0, EXACT))


@settings(max_examples=60, deadline=None)
@given(amounts, rates, pairs)
def test_an_amount_is_its_decimal_times_the_rate_rounded_half_to_even_once(
    amount: int, rate: Decimal, pair: tuple[str, str]
) -> None:
    currency, to = pair
    table = RateTable([Rate(currency, to, date(2026, 3, 1), rate)])

    assert table.convert(amount, currency, to, NOW) == meant(amount, rate, currency, to)


@settings(max_examples=40, deadline=None)
@given(st.integers(-(10**9), 10**9), rates, pairs)
def test_a_rate_given_the_other_way_round_divides(
    amount: int, rate: Decimal, pair: tuple[str, str]
) -> None:
    currency, to = pair
    table = RateTable([Rate(to, currency, date(2026, 3, 1), rate)])
    found = table.convert(amount, currency, to, NOW)

    assert found is not None
    scale = 10 ** ((minor_digits(to) or 0) - (minor_digits(currency) or 0) + 10)
    above, below = as_ratio(rate)
    # Twice the distance to the exact quotient is at most one minor unit.
    assert abs(2 * (found * above * 10**10 - amount * below * scale)) <= above * 10**10


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), unique=True, min_size=1), st.integers(-5, 40))
def test_the_newest_rate_at_or_before_the_day_holds(days: list[int], asked: int) -> None:
    start = date(2026, 1, 1)
    table = RateTable(
        Rate("USD", "CNY", start + timedelta(days=day), Decimal(day + 1)) for day in days
    )
    before = [day for day in days if day <= asked]
    found = table.find("USD", "CNY", start + timedelta(days=asked))

    assert found == (None if not before else (max(before) + 1, 1))


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", "1e9", "1.0000000000000001", ""])
def test_what_is_no_rate_is_refused(text: str) -> None:
    assert read_rate(text) is None


def test_of_one_date_the_direct_rate_holds_and_of_several_the_newest() -> None:
    direct = Rate("USD", "CNY", date(2026, 3, 1), Decimal(7))
    inverse = Rate("CNY", "USD", date(2026, 3, 1), Decimal("0.125"))
    later = Rate("CNY", "USD", date(2026, 3, 2), Decimal("0.125"))
    table = RateTable([direct, inverse, later])

    assert table.find("USD", "CNY", date(2026, 3, 1)) == (7, 1)
    assert table.find("USD", "CNY", date(2026, 3, 2)) == (8, 1)


# ── In rules ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def draw_rates(draw: random.Random) -> list[Rate]:
    """Rates of some pairs on some days; of others none."""
    found: dict[tuple[str, str, date], Rate] = {}
    for _ in range(draw.randint(0, 8)):
        currency, to = draw.sample(CURRENCIES, 2)
        at = (NOW - timedelta(days=draw.choice((0, 1, 7, 30, 100, 400)))).date()
        rate = draw.choice((Decimal("7.12345"), Decimal("0.5"), Decimal("0.0067"), Decimal(150)))
        found[currency, to, at] = Rate(currency, to, at, rate)
    return list(found.values())


def load_rates(duck: duckdb.DuckDBPyConnection, found: list[Rate]) -> None:
    duck.execute("DELETE FROM core.rates")
    for rate in found:
        duck.execute(
            "INSERT INTO core.rates VALUES (?, ?, ?, ?, ?, ?)", [*rate, *as_ratio(rate.rate)]
        )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_rules_convert_by_the_same_table_in_duckdb_and_in_the_reference(
    duck: duckdb.DuckDBPyConnection, seed: int
) -> None:
    dice = Dice(seed)
    people = make_world(duck, dice)
    found = draw_rates(dice.random)
    load_rates(duck, found)
    told = [replace(facts(someone), rates=RateTable(found)) for someone in people]
    for _ in range(10):
        path = dice.one("total", "total", "refunded", "shipping", "line.total", "line.price")
        aggregate: dict[str, Any] = {
            "fn": dice.one("sum", "avg", "min", "max"),
            "property": path,
            "currency": dice.one(*CURRENCIES),
        }
        document = {**dice.orders(), "aggregate": aggregate}
        figure = parse_aggregate(document)
        values = {n: aggregate_value(figure, one, NOW) for n, one in enumerate(told)}
        expected = {number: value for number, value in values.items() if value is not None}
        assert tag_values(duck, figure, NOW) == expected, document
        rule = parse_rule({**document, **dice.comparison("money")})
        holding = [number for number, one in enumerate(told) if evaluate(rule, one, NOW)]
        assert members(duck, rule, NOW) == holding, rule
