"""Events as DuckDB relations: which rows count, how many there are, and figures over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cdp.segments.compile_orders import matching_orders
from cdp.segments.compile_paths import json_at
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_typed import typed_events
from cdp.segments.compile_values import (
    Parameters,
    SqlValue,
    json_holds,
    json_scalar,
    scalar_holds,
)
from cdp.segments.order_fields import find_type
from cdp.segments.rules import (
    ELAPSED_FUNCTIONS,
    NUMBER_FUNCTIONS,
    Comparison,
    EventFigure,
    Events,
    Function,
    Orders,
    Path,
)
from cdp.typed_columns import TypedEvent

# Sums add decimals exactly to nine places, so that neither the order of rows nor the number of
# threads decides at a threshold. Numbers that do not fit (1e18 and more) are added as doubles.
_DECIMAL = "DECIMAL(27, 9)"
# Up to a million a double times a billion errs by less than an eighth of the last place: only what
# lies near the middle between two goes by its text.
_IS_CLEAR = "abs(number) < 1e6 AND abs(number * 1e9 - round(number * 1e9)) < 0.25"
_TIME = 'e."at"'
_MICROSECONDS_A_DAY = 86_400_000_000
# Earliest to latest among equal times; the last two only make the choice unambiguous.
_ORDER = '("at", message_id, source_id)'
_PICKS = {"first": "arg_min", "last": "arg_max"}


class Figure(NamedTuple):
    """Profiles with a figure: ``SELECT profile_no, value[, currency]``; ``value`` is a number or
    JSON text, ``currency`` there when it is an amount of orders."""

    sql: str
    is_number: bool

    def view(self) -> SqlValue:
        """Return the column ``value`` by type."""
        return SqlValue(number="value") if self.is_number else json_scalar("value")


def matching_events(
    events: Events,
    scope: Scope,
    parameters: Parameters,
    value_path: Path | None = None,
    *,
    present: bool = False,
) -> str:
    """Return ``SELECT profile_no, "at", message_id, source_id[, value]`` of the events meant.

    ``value`` is the JSON text at ``value_path``; with ``present``, events without it are left out.
    """
    typed = find_table(events, scope, value_path)
    if typed is not None:
        return typed_events(events, typed, scope, parameters, value_path, present=present)
    extracted, tests = [], []
    for index, condition in enumerate(events.where):
        column = f"w{index}"
        at = json_at("e.properties", condition.path, parameters, is_object=True)
        extracted.append(f", {at} AS {column}")
        tests.append(json_holds(column, condition.comparison, scope.now, parameters))
    if value_path is not None:
        at = json_at("e.properties", value_path, parameters, is_object=True)
        extracted.append(f", {at} AS value")
        if present:
            tests.append(json_holds("value", Comparison("exists"), scope.now, parameters))
    rows = (
        f'SELECT profile_no, e."at", e.message_id, e.source_id{"".join(extracted)} '
        f"FROM {scope.owned_events()} "
        f"WHERE e.event = {parameters.add(events.name)} "
        f"AND {scope.in_window(_TIME, events.within, parameters)}"
    )
    if not tests:
        return rows
    columns = 'profile_no, "at", message_id, source_id'
    if value_path is not None:
        columns += ", value"
    return f"SELECT {columns} FROM ({rows}) WHERE {' AND '.join(tests)}"


def find_table(events: Events, scope: Scope, value_path: Path | None = None) -> TypedEvent | None:
    """Return the events' own table, if it has columns for all that is asked of them."""
    paths = [condition.path for condition in events.where]
    if value_path is not None:
        paths.append(value_path)
    if any(not path for path in paths):
        return None
    return scope.typed_event(events.name, [path[0] for path in paths])


def matching(
    events: Events | Orders,
    scope: Scope,
    parameters: Parameters,
    path: Path | None = None,
    *,
    present: bool = False,
    into: str | None = None,
) -> str:
    """Return the events or orders meant, with the columns that both have; amounts of orders

    ``into`` a currency."""
    if isinstance(events, Orders):
        return matching_orders(events, scope, parameters, path, present=present, into=into)
    return matching_events(events, scope, parameters, path, present=present)


def counted(
    events: Events | Orders,
    comparison: Comparison,
    scope: Scope,
    parameters: Parameters,
    *,
    negated: bool,
) -> str:
    """Return the profiles with events or orders whose number satisfies (``negated``: does not)."""
    test = scalar_holds(SqlValue(number="count(*)"), comparison, scope.now, parameters)
    rows = matching(events, scope, parameters)
    verdict = f"NOT {test}" if negated else test
    return f"SELECT profile_no FROM ({rows}) GROUP BY profile_no HAVING {verdict}"


def event_figure(rule: EventFigure, scope: Scope, parameters: Parameters) -> Figure:
    """Return the figure of every profile that has one; profiles without one are absent."""
    if rule.function in ELAPSED_FUNCTIONS:
        rows = matching(rule.events, scope, parameters)
        return _elapsed(rule.function, rows, scope, parameters)
    picks_one = rule.function in _PICKS
    is_money = isinstance(rule.events, Orders) and find_type(rule.path) == "money"
    adds_up = rule.function in NUMBER_FUNCTIONS
    present = picks_one or (is_money and adds_up)
    if adds_up and isinstance(rule.events, Events):
        typed = find_table(rule.events, scope, rule.path)
        if typed is not None:
            numbers = typed_events(rule.events, typed, scope, parameters, rule.path, adds_up=True)
            return Figure(_typed_figure(rule.function, numbers, parameters), is_number=True)
    rows = matching(rule.events, scope, parameters, rule.path, present=present, into=rule.currency)
    if not is_money:
        return plain_figure(rule.function, rows, scope, parameters)
    if picks_one:
        pick = _PICKS[rule.function]
        currency = f"{pick}(currency, {_ORDER})"
        return Figure(_grouped(f"{pick}(value, {_ORDER})", rows, currency), is_number=False)
    if not adds_up:
        return plain_figure(rule.function, rows, scope, parameters)
    rows = _of_one_currency(rows, is_converted=rule.currency is not None)
    figure = _number_figure(rule.function, rows, parameters, "any_value(currency)")
    return Figure(figure, is_number=True)


def plain_figure(function: Function, rows: str, scope: Scope, parameters: Parameters) -> Figure:
    """Return the figure of what is no money over ``rows``, which have what ``matching`` gives.

    Only present values where one is picked (first, last)."""
    if function in ELAPSED_FUNCTIONS:
        return _elapsed(function, rows, scope, parameters)
    if function in _PICKS:
        return Figure(_grouped(f"{_PICKS[function]}(value, {_ORDER})", rows), is_number=False)
    if function == "most_frequent":
        return Figure(_most_frequent(rows), is_number=False)
    if function == "count_distinct":
        keys = _keyed_elements(rows)
        return Figure(_grouped("count(DISTINCT key)", keys), is_number=True)
    assert function in NUMBER_FUNCTIONS
    return Figure(_number_figure(function, rows, parameters, ""), is_number=True)


def _of_one_currency(rows: str, *, is_converted: bool) -> str:
    """Return the rows of profiles whose rows are in one currency; of converted ones those of

    profiles for all of whose rows there was a rate.
    """
    test = "bool_and(currency IS NOT NULL)" if is_converted else "count(DISTINCT currency) = 1"
    return (
        f"SELECT * FROM ({rows}) SEMI JOIN "
        f"(SELECT profile_no FROM ({rows}) GROUP BY profile_no HAVING {test}) USING (profile_no)"
    )


def _grouped(expression: str, rows: str, currency: str = "") -> str:
    more = f", {currency} AS currency" if currency else ""
    return f"SELECT profile_no, {expression} AS value{more} FROM ({rows}) GROUP BY profile_no"


def _elapsed(function: Function, rows: str, scope: Scope, parameters: Parameters) -> Figure:
    pick = "max" if function == "days_since_last" else "min"
    now = f"epoch_us({parameters.add(scope.now)})"
    days = f'({now} - epoch_us({pick}("at"))) // {_MICROSECONDS_A_DAY}'
    return Figure(_grouped(days, rows), is_number=True)


def _number_figure(function: str, rows: str, parameters: Parameters, currency: str) -> str:
    """Sum, avg, min, max per profile over the numbers, those in lists included."""

    def per_event(read: Callable[[str], str], fold: str) -> str:
        return f"coalesce({read('value')}, {_fold_list(read, fold, parameters)})"

    if function in ("min", "max"):
        figure = f"{function}({per_event(_number, function)})"
    else:
        small = f"sum({per_event(_small_number, 'sum')})::DOUBLE"
        # Asked only where the small number is missing: for lists, and hardly ever else.
        is_rest = f"{_small_number('value')} IS NULL"
        large = f"sum(CASE WHEN {is_rest} THEN {per_event(_large_number, 'sum')} END)"
        figure = f"coalesce({small} + {large}, {small}, {large})"
    if function == "avg":
        figure = f"{figure} / sum({per_event(_one_if_number, 'sum')})"
    return f"SELECT * FROM ({_grouped(figure, rows, currency)}) WHERE value IS NOT NULL"


def _typed_figure(function: str, rows: str, parameters: Parameters) -> str:
    """The same over rows that have plain numbers in ``number`` and the rest in ``value``.

    In ``value`` there is nearly never anything: then a figure is one column's.
    """

    def rest(read: Callable[[str], str], fold: str) -> str:
        folded = f"coalesce({read('value')}, {_fold_list(read, fold, parameters)})"
        return f"CASE WHEN value IS NOT NULL THEN {folded} END"

    if function in ("min", "max"):
        pick = "least" if function == "min" else "greatest"
        figure = f"{function}({pick}(number, {rest(_number, function)}))"
    else:
        nanos = f"sum(CASE WHEN value IS NULL AND {_IS_CLEAR} THEN (number * 1e9)::BIGINT END)"
        others = (
            f"sum(CASE WHEN value IS NULL AND NOT ({_IS_CLEAR}) THEN {_nanos('number')} "
            f"ELSE {rest(_nanos, 'sum')} END)"
        )
        small = f"coalesce({nanos} + {others}, {nanos}, {others})"
        large = f"sum({rest(_large_number, 'sum')})"
        return _typed_sum(function, rows, small, large, _typed_count(rest))
    return f"SELECT * FROM ({_grouped(figure, rows)}) WHERE value IS NOT NULL"


def _typed_count(rest: Callable[[Callable[[str], str], str], str]) -> str:
    many = "CASE WHEN value IS NULL AND number IS NOT NULL THEN 1 END"
    return f"sum(coalesce({many}, {rest(_one_if_number, 'sum')}))"


def _typed_sum(function: str, rows: str, small: str, large: str, count: str) -> str:
    """Return the sum, or the average, of billionths that are exact and numbers that are not."""
    grouped = (
        f"SELECT profile_no, {small} AS small, {large} AS large"
        f"{f', {count} AS many' if function == 'avg' else ''} FROM ({rows}) GROUP BY profile_no"
    )
    # As DuckDB casts a decimal: what no double holds in two parts.
    small = (
        "CASE WHEN abs(small) <= 9007199254740992 THEN small::DOUBLE / 1e9 "
        "ELSE (small // 1000000000)::DOUBLE + (small % 1000000000)::DOUBLE / 1e9 END"
    )
    figure = f"coalesce({small} + large, {small}, large)"
    if function == "avg":
        figure = f"{figure} / many"
    return (
        f"SELECT profile_no, {figure} AS value FROM ({grouped}) "
        "WHERE small IS NOT NULL OR large IS NOT NULL"
    )


def _fold_list(read: Callable[[str], str], fold: str, parameters: Parameters) -> str:
    item = parameters.variable()
    items = f"list_transform(json_extract(value, '$[*]'), lambda {item}: {read(item)})"
    return f"CASE WHEN starts_with(value, '[') THEN list_{fold}({items}) END"


def _nanos(value: str) -> str:
    """Return a small number in billionths, exactly what its shortest text says."""
    return f"({_small_number(value)} * 1000000000::DECIMAL(10, 0))::HUGEINT"


def _number(value: str) -> str:
    return f"try_cast({value}::VARCHAR AS DOUBLE)"


def _small_number(value: str) -> str:
    return f"try_cast({value}::VARCHAR AS {_DECIMAL})"


def _large_number(value: str) -> str:
    return f"CASE WHEN {_small_number(value)} IS NULL THEN {_number(value)} END"


def _one_if_number(value: str) -> str:
    return f"CASE WHEN {_number(value)} IS NOT NULL THEN 1 END"


def _keyed_elements(rows: str) -> str:
    """Return one row per scalar element with ``key``: equal for equal values of one type."""
    listed = "CASE WHEN starts_with(value, '[') THEN json_extract(value, '$[*]') ELSE [value] END"
    elements = (
        'SELECT profile_no, "at", message_id, source_id, unnest(items) AS element, '
        "generate_subscripts(items, 1) AS position "
        f"FROM (SELECT *, {listed} AS items FROM ({rows}))"
    )
    view = json_scalar("element")
    # Adding zero makes -0 the 0 that it equals.
    key = f"coalesce(to_json({view.text}), to_json({view.boolean}), to_json({view.number} + 0.0))"
    keyed = f"SELECT *, {key}::VARCHAR AS key FROM ({elements})"
    return f"SELECT * FROM ({keyed}) WHERE key IS NOT NULL"


def _most_frequent(rows: str) -> str:
    keys = _keyed_elements(rows)
    per_key = (
        "SELECT profile_no, key, count(DISTINCT (message_id, source_id)) AS events, "
        f"max({_ORDER[:-1]}, position)) AS seen FROM ({keys}) GROUP BY profile_no, key"
    )
    return _grouped("arg_max(key, (events, seen))", per_key)
