"""Orders in the reference meaning: which ones count, and figures over them. Pure.

Amounts are decimals in major units of the order's own currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cdp.rates import NO_RATES, RateTable, count_digits
from cdp.segments.evaluate_events import Moment, elapsed_days, fold_values
from cdp.segments.evaluate_values import value_holds
from cdp.segments.order_fields import LINE, LINE_FIELDS, ORDER_FIELDS, FieldType, find_type
from cdp.segments.rules import (
    ELAPSED_FUNCTIONS,
    NUMBER_FUNCTIONS,
    Comparison,
    EventFigure,
    MoneyComparison,
    OrderCondition,
    Orders,
    Path,
)
from cdp.segments.windows import bounds


class OrderFact(NamedTuple):
    """An order of a person as it stands; ``at`` is when it was placed."""

    order_id: str
    at: datetime
    currency: str
    fields: Mapping[str, Any] = {}
    lines: Sequence[Mapping[str, Any]] = ()
    scope: str = ""

    @property
    def place(self) -> tuple[datetime, str, str]:
        """Its place among the person's orders: by time, then order id."""
        return (self.at, self.order_id, self.scope)


def make_order_fact(
    order: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], units: float
) -> OrderFact:
    """Make the fact of an order from its columns, with amounts in minor units; ``total`` is net.

    ``units`` is how many of these the currency's unit has.
    """
    return OrderFact(
        order["order_id"],
        order["placed_at"],
        order["currency"],
        _pick(order, ORDER_FIELDS, units),
        [_pick(line, LINE_FIELDS, units) for line in lines],
        order["scope"],
    )


def _pick(row: Mapping[str, Any], fields: Mapping[str, FieldType], units: float) -> dict[str, Any]:
    return {
        name: row[name] / units if kind == "money" else row[name]
        for name, kind in fields.items()
        if row.get(name) is not None
    }


class OrderFigure(NamedTuple):
    """A figure as a JSON value, ``None`` when absent; and its currency, if it is an amount."""

    value: object
    currency: str | None = None


def matching_orders(orders: Orders, facts: Iterable[OrderFact], moment: Moment) -> list[OrderFact]:
    """Return the facts that ``orders`` means, in time order, with the lines that are meant."""
    stretch = bounds(orders.within, moment.now, moment.timezone)
    found = []
    for fact in facts:
        if not stretch.contain(fact.at):
            continue
        if not _all_hold(orders.where, fact.fields, fact.currency, moment):
            continue
        lines = [
            line for line in fact.lines if _all_hold(orders.line_where, line, fact.currency, moment)
        ]
        if lines or not orders.line_where:
            found.append(fact._replace(lines=lines))
    return sorted(found, key=lambda fact: fact.place)


def _all_hold(
    conditions: Iterable[OrderCondition], fields: Mapping[str, Any], currency: str, moment: Moment
) -> bool:
    return all(
        amount_holds(fields.get(condition.field), condition.comparison, currency, moment)
        for condition in conditions
    )


def amount_holds(
    value: object,
    comparison: Comparison | MoneyComparison,
    currency: str | None,
    moment: Moment,
) -> bool:
    """Whether ``comparison`` holds for a value that is in ``currency`` if it is an amount."""
    if isinstance(comparison, MoneyComparison):
        settled = comparison.settle(currency)
        if settled is None:
            return False
        comparison = settled
    return value_holds(value, comparison, moment.now, moment.search)


def order_figure(
    rule: EventFigure, facts: Iterable[OrderFact], moment: Moment, rates: RateTable = NO_RATES
) -> OrderFigure:
    """Return the figure; absent too when it would add amounts of several currencies, or convert

    one for which there is no rate in ``rates``.
    """
    assert isinstance(rule.events, Orders)
    found = matching_orders(rule.events, facts, moment)
    if rule.function in ELAPSED_FUNCTIONS:
        return OrderFigure(elapsed_days(rule.function, [fact.at for fact in found], moment))
    told = [
        (fact.currency, value)
        if rule.currency is None
        else _convert_value(value, fact, rule.currency, rates)
        for fact in found
        if (value := _read_value(fact, rule.path)) is not None
    ]
    value = fold_values(rule.function, [value for _, value in told])
    if find_type(rule.path) != "money" or not told:
        return OrderFigure(value)
    if rule.function in ("first", "last"):
        return OrderFigure(value, told[0 if rule.function == "first" else -1][0])
    if rule.function not in NUMBER_FUNCTIONS:
        return OrderFigure(value)
    currencies = {currency for currency, _ in told}
    if len(currencies) > 1 or None in currencies:
        return OrderFigure(None)
    return OrderFigure(value, told[0][0])


def _convert_value(
    value: Any, fact: OrderFact, into: str, rates: RateTable
) -> tuple[str | None, Any]:
    """Return a currency and the amount or amounts in it; without a rate no currency."""
    amounts = value if isinstance(value, list) else [value]
    # An amount is the double that its decimal is, so its minor units are the nearest whole number.
    units = 10 ** count_digits(fact.currency)
    found = [rates.convert(round(one * units), fact.currency, into, fact.at) for one in amounts]
    done = [float(one) / 10 ** count_digits(into) for one in found if one is not None]
    if len(done) < len(amounts):
        return None, value
    return into, done if isinstance(value, list) else done[0]


def _read_value(fact: OrderFact, path: Path) -> object:
    """Return the order's field; of its lines' fields a list of those that are there."""
    if path[0] != LINE:
        return fact.fields.get(path[0])
    values = [line[path[1]] for line in fact.lines if line.get(path[1]) is not None]
    return values or None
