"""Numbers of events and orders, and figures over them, as DuckDB sets and as values of tags."""

from __future__ import annotations

from cdp.segments.compile_events import Figure, counted, event_figure, matching
from cdp.segments.compile_members import Members, as_members, members_where
from cdp.segments.compile_orders import settle_by_currency
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters, json_holds, scalar_holds
from cdp.segments.evaluate_values import value_holds
from cdp.segments.rules import (
    ABSENT_OPS,
    Comparison,
    EventCount,
    EventFigure,
    Function,
    MoneyComparison,
)

AT_LEAST_ONE = Comparison("gte", 1.0)


def count_members(rule: EventCount, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles whose number of events or orders satisfies."""
    comparison = rule.comparison or AT_LEAST_ONE
    if comparison == AT_LEAST_ONE:
        rows = matching(rule.events, scope, parameters)
        return as_members(f"SELECT DISTINCT profile_no FROM ({rows})")
    # Where zero satisfies too: everybody but those whose number does not.
    zero_holds = value_holds(0.0, comparison, scope.now)
    select = counted(rule.events, comparison, scope, parameters, negated=zero_holds)
    return as_members(select, is_complement=zero_holds)


def figure_members(rule: EventFigure, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles whose figure satisfies."""
    comparison = rule.comparison
    assert comparison is not None
    figure = event_figure(rule, scope, parameters)

    def holds(settled: Comparison) -> str:
        return figure_holds(figure, settled, scope, parameters)

    if isinstance(comparison, MoneyComparison):
        test = settle_by_currency(comparison, "currency", holds, parameters)
        return members_where(figure.sql, test, absent_holds=False)
    absent_holds = holds_when_absent(rule.function, comparison, scope)
    return members_where(figure.sql, holds(comparison), absent_holds)


def holds_when_absent(function: Function, comparison: Comparison, scope: Scope) -> bool:
    """Return whether a profile without a figure satisfies: 0 is the number of no values."""
    if function == "count_distinct":
        return value_holds(0.0, comparison, scope.now)
    return comparison.op in ABSENT_OPS


def figure_holds(
    figure: Figure, comparison: Comparison, scope: Scope, parameters: Parameters
) -> str:
    """Return the condition on the row of a figure."""
    if not figure.is_number:
        return json_holds("value", comparison, scope.now, parameters)
    if comparison.op in ("exists", "not_exists"):
        return "TRUE" if comparison.op == "exists" else "FALSE"
    return scalar_holds(figure.view(), comparison, scope.now, parameters)


def aggregate_values(rule: EventFigure | EventCount, scope: Scope, parameters: Parameters) -> str:
    """Return ``SELECT profile_no, value`` (JSON): counts for everyone, figures where they are."""
    if isinstance(rule, EventCount):
        rows = matching(rule.events, scope, parameters)
        numbers = f"SELECT profile_no, count(*) AS value FROM ({rows}) GROUP BY profile_no"
        return _counts(numbers, scope)
    figure = event_figure(rule, scope, parameters)
    if rule.function == "count_distinct":
        return _counts(figure.sql, scope)
    if not figure.is_number:
        return f"SELECT profile_no, value::JSON AS value FROM ({figure.sql})"
    # Whole numbers are written without a fraction, as they were sent.
    whole = "value = trunc(value) AND abs(value) < 9007199254740992"
    written = f"CASE WHEN {whole} THEN to_json(value::BIGINT) ELSE to_json(value) END"
    return f"SELECT profile_no, {written} AS value FROM ({figure.sql})"


def _counts(numbers: str, scope: Scope) -> str:
    return (
        "SELECT e.profile_no, to_json(coalesce(f.value, 0)) AS value "
        f"FROM {scope.everyone()} e LEFT JOIN ({numbers}) f ON e.profile_no = f.profile_no"
    )
