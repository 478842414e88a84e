"""Orders as DuckDB relations: which rows count, and what a figure is made of.

Their fields are columns, not documents; an amount is its minor units divided by those of its
currency, which gives the very double that the decimal is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from cdp.rates import count_digits
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters, SqlValue, scalar_holds
from cdp.segments.order_fields import LINE, find_type
from cdp.segments.rules import (
    ABSENT_OPS,
    Comparison,
    MoneyComparison,
    OrderCondition,
    Orders,
    Path,
)

_COLUMNS = {
    "total": "r.net",
    **{name: f"(r.document ->> '$.{name}')::BIGINT" for name in ("discount", "tax", "shipping")},
}
_UNITS = "LEFT JOIN core.currencies c ON c.currency = r.currency"
# The newest rate of each date, whichever way it is given; the direct one where both are.
_RATES_INTO = """
SELECT currency, since, arg_max(above, direct) AS above, arg_max(below, direct) AS below
  FROM (SELECT currency, "at"::TIMESTAMP AS since, above, below, 1 AS direct
          FROM core.rates WHERE "to" = {into}
        UNION ALL
        SELECT "to", "at"::TIMESTAMP, below, above, 0 FROM core.rates WHERE currency = {into})
 GROUP BY currency, since
UNION ALL SELECT {into}, TIMESTAMP '0001-01-01', 1, 1
"""


def matching_orders(
    orders: Orders,
    scope: Scope,
    parameters: Parameters,
    path: Path | None = None,
    *,
    present: bool = False,
    into: str | None = None,
) -> str:
    """Return ``SELECT profile_no, "at", message_id, source_id, currency[, value]`` of the orders

    meant, where ``message_id`` is the order id. ``value`` is the JSON text of the field at
    ``path``, of lines a list of those meant; with ``present``, orders without it are left out.
    ``into`` converts amounts into that currency: without a rate ``currency`` is NULL.
    """
    tests = [_condition_holds(each, (each.field,), scope, parameters) for each in orders.where]
    tests.append(scope.in_window("r.placed_at", orders.within, parameters))
    is_of_lines = path is not None and path[0] == LINE
    lines = ""
    if orders.line_where or is_of_lines:
        kind = "JOIN" if orders.line_where else "LEFT JOIN"
        found = _matching_lines(
            orders.line_where, path if is_of_lines else None, scope, parameters, into
        )
        lines = f"{kind} ({found}) l ON l.order_no = r.order_no"
    value = ""
    if path is not None:
        value = ", l.value AS value" if is_of_lines else f", {_to_json(path, into)} AS value"
    currency = "r.currency"
    if into is not None:
        currency = f"if(x.above IS NULL, NULL, {parameters.add(into)}) AS currency"
    rows = (
        f'SELECT o.profile_no, r.placed_at AS "at", r.order_id AS message_id, '
        f"r.scope AS source_id, {currency}{value} "
        f"FROM {scope.table('orders')} r JOIN {scope.owners()} o "
        "ON r.node_id = o.node_id AND r.placed_at >= o.since AND r.placed_at < o.until "
        f"{_UNITS} {_join_rates(into, parameters)} {lines} WHERE {' AND '.join(tests)}"
    )
    return f"SELECT * FROM ({rows}) WHERE value IS NOT NULL" if present else rows


def _matching_lines(
    conditions: Iterable[OrderCondition],
    path: Path | None,
    scope: Scope,
    parameters: Parameters,
    into: str | None,
) -> str:
    """Return the orders with lines that meet every condition; with ``path`` those lines' values."""
    tests = [_condition_holds(each, (LINE, each.field), scope, parameters) for each in conditions]
    value = ""
    if path is not None:
        column = _read(path, into)
        found = f"list({column} ORDER BY i.position) FILTER ({column} IS NOT NULL)"
        value = f", to_json({found})::VARCHAR AS value"
    return (
        f"SELECT i.order_no{value} FROM {scope.table('order_lines')} i "
        f"JOIN {scope.table('orders')} r ON r.order_no = i.order_no "
        f"{_UNITS} {_join_rates(into, parameters)} "
        f"WHERE {' AND '.join(tests) or 'TRUE'} GROUP BY i.order_no"
    )


def _join_rates(into: str | None, parameters: Parameters) -> str:
    """Return the join that gives each order ``r`` its rate ``x`` into a currency, if any."""
    if into is None:
        return ""
    rates = _RATES_INTO.format(into=parameters.add(into))
    return (
        f"ASOF LEFT JOIN ({rates}) x "
        "ON x.currency = r.currency AND (r.placed_at AT TIME ZONE 'UTC') >= x.since"
    )


def _read(path: Path, into: str | None = None) -> str:
    """Return the expression of a field: text, or a number; an amount ``into`` a currency, where

    there is a rate."""
    name = path[-1]
    column = f"i.{name}" if path[0] == LINE else _COLUMNS.get(name, f"r.{name}")
    if find_type(path) != "money":
        return column
    own = f"({column} / coalesce(c.units, 100))"
    return own if into is None else f"coalesce({_convert(column, into)}, {own})"


def _convert(column: str, into: str) -> str:
    """Return minor units as units of ``into``: exactly, rounded once, half to even; see ``rates``.

    Whole numbers of 127 bits hold every product that there can be.
    """
    units = 10 ** count_digits(into)
    number = f"({column}::HUGEINT * x.above * {units})"
    by = "(x.below * coalesce(c.units, 100)::HUGEINT)"
    quotient, rest = f"(abs({number}) // {by})", f"(abs({number}) % {by})"
    is_up = f"2 * {rest} > {by} OR (2 * {rest} = {by} AND {quotient} % 2 = 1)"
    return f"(sign({number}) * ({quotient} + if({is_up}, 1, 0))::DOUBLE / {units})"


def _to_json(path: Path, into: str | None) -> str:
    return f"to_json({_read(path, into)})::VARCHAR"


def _condition_holds(
    condition: OrderCondition, path: Path, scope: Scope, parameters: Parameters
) -> str:
    column = _read(path)
    value = SqlValue(text=column) if find_type(path) == "text" else SqlValue(number=column)

    def holds(comparison: Comparison) -> str:
        return _column_holds(column, value, comparison, scope.now, parameters)

    if isinstance(condition.comparison, MoneyComparison):
        return settle_by_currency(condition.comparison, "r.currency", holds, parameters)
    return holds(condition.comparison)


def settle_by_currency(
    comparison: MoneyComparison,
    currency: str,
    holds: Callable[[Comparison], str],
    parameters: Parameters,
) -> str:
    """Return the test of a comparison with money; ``currency`` is the amount's own (SQL)."""

    def test(of: str | None) -> str:
        settled = comparison.settle(of)
        return "FALSE" if settled is None else holds(settled)

    cases = [f"WHEN {parameters.add(of)} THEN {test(of)}" for of in comparison.currencies()]
    return f"(CASE {currency} {' '.join(cases)} ELSE {test(None)} END)"


def _column_holds(
    column: str, value: SqlValue, comparison: Comparison, now: datetime, parameters: Parameters
) -> str:
    """Return the boolean, never NULL, of a comparison with a column that may be NULL."""
    op, operand = comparison
    if op == "exists" or (op == "not_in" and operand == ()):
        return f"({column} IS NOT NULL)"
    if op == "not_exists":
        return f"({column} IS NULL)"
    test = scalar_holds(value, comparison, now, parameters)
    return f"({column} IS NULL OR {test})" if op in ABSENT_OPS else test
