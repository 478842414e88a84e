"""Comparisons as DuckDB expressions over one value.

A JSON value is looked at as its JSON text: a text begins with a quotation mark, a list with a
bracket, and only numbers cast to DOUBLE. So one extraction from a document serves every check,
and nothing is ever converted from one type to another. An expression is NULL where the types do
not match; ``json_holds`` and ``scalar_holds`` turn that into false.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cdp.segments.rules import (
    ABSENT_OPS,
    EVERY_ELEMENT_OPS,
    Comparison,
    Duration,
    Scalar,
)
from cdp.segments.times import TIME_PATTERN, step_back

# Longer lists are looked up in a hash table instead of being walked for every row.
LONGEST_WALKED_LIST = 8
_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "=", "ne": "<>"}
_TEXT = {
    "contains": "contains({0}, {1})",
    "not_contains": "NOT contains({0}, {1})",
    "starts_with": "starts_with({0}, {1})",
    "ends_with": "ends_with({0}, {1})",
    "matches": "regexp_matches({0}, {1})",
}


@dataclass(slots=True)
class Parameters:
    """The values of a statement, handed to DuckDB beside the SQL, never inside it."""

    values: dict[str, object] = field(default_factory=dict)
    _variables: int = 0

    def add(self, value: object, cast: str = "") -> str:
        """Keep ``value`` and return its placeholder; ``cast`` names a type where it is not clear
        from the value (an empty list)."""
        name = f"p{len(self.values) + 1}"
        self.values[name] = value
        return f"${name}::{cast}" if cast else f"${name}"

    def variable(self) -> str:
        """Return a new name for the argument of a lambda."""
        self._variables += 1
        return f"x{self._variables}"


@dataclass(frozen=True, slots=True)
class SqlValue:
    """A value by type: each expression is NULL when the value is of another type."""

    text: str = "NULL::VARCHAR"
    number: str = "NULL::DOUBLE"
    boolean: str = "NULL::BOOLEAN"


def json_scalar(value: str) -> SqlValue:
    """Look at an expression that holds JSON text, or NULL."""
    return SqlValue(
        text=f"CASE WHEN starts_with({value}, '\"') THEN json_extract_string({value}, '$') END",
        number=f"try_cast({value}::VARCHAR AS DOUBLE)",
        boolean=f"CASE {value}::VARCHAR WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END",
    )


def json_holds(value: str, comparison: Comparison, now: datetime, parameters: Parameters) -> str:
    """Return the boolean, never NULL, of a comparison with JSON text that may be NULL or a list."""
    present = f"({value} IS NOT NULL AND {value}::VARCHAR <> 'null')"
    op, operand = comparison
    if op == "exists" or (op == "not_in" and operand == ()):
        return present
    if op == "not_exists":
        return f"(NOT {present})"
    # The common case first: where it gives NULL, the value is a list, absent or of another type.
    one = value_verdict(json_scalar(value), comparison, now, parameters)
    absent = f"WHEN NOT {present} THEN TRUE " if op in ABSENT_OPS else ""
    return (
        f"coalesce({one}, CASE WHEN starts_with({value}, '[') "
        f"THEN {list_holds(value, comparison, now, parameters)} {absent}ELSE FALSE END)"
    )


def list_holds(value: str, comparison: Comparison, now: datetime, parameters: Parameters) -> str:
    """Return the boolean, never NULL, of a comparison with the elements of a JSON list."""
    item, kept = parameters.variable(), parameters.variable()
    one = scalar_holds(json_scalar(item), comparison, now, parameters, in_lambda=True)
    items = f"list_filter(json_extract({value}, '$[*]'), lambda {kept}: {kept}::VARCHAR <> 'null')"
    verdicts = f"list_transform({items}, lambda {item}: {one})"
    if comparison.op in EVERY_ELEMENT_OPS:
        return f"coalesce(list_bool_and({verdicts}), TRUE)"
    return f"coalesce(list_bool_or({verdicts}), FALSE)"


def scalar_holds(
    value: SqlValue,
    comparison: Comparison,
    now: datetime,
    parameters: Parameters,
    *,
    in_lambda: bool = False,
) -> str:
    """Return the boolean, never NULL, of a comparison with one present value."""
    verdict = value_verdict(value, comparison, now, parameters, in_lambda=in_lambda)
    return f"coalesce({verdict}, FALSE)"


def value_verdict(
    value: SqlValue,
    comparison: Comparison,
    now: datetime,
    parameters: Parameters,
    *,
    in_lambda: bool = False,
) -> str:
    """Return the boolean of a comparison with one value; NULL where the types do not match."""
    op, operand = comparison
    if op in ("in", "not_in"):
        assert isinstance(operand, tuple)
        return _among(value, operand, parameters, negated=op == "not_in", in_lambda=in_lambda)
    if op in _TEXT:
        return _TEXT[op].format(value.text, parameters.add(operand))
    if op in ("before", "after", "within_last", "not_within_last"):
        return _time_holds(read_time_sql(value.text), comparison, now, parameters)
    if op == "between":
        assert isinstance(operand, tuple)
        low, high = (parameters.add(end) for end in operand)
        return f"{_of_type(value, operand[0], ordered=True)} BETWEEN {low} AND {high}"
    assert isinstance(operand, (str, float, bool))
    typed = _of_type(value, operand, ordered=op not in ("eq", "ne"))
    return f"{typed} {_ORDER[op]} {parameters.add(operand)}"


def _of_type(value: SqlValue, operand: Scalar, *, ordered: bool) -> str:
    """Return the view of ``value`` that compares with ``operand``; booleans have no order."""
    if isinstance(operand, bool):
        return "NULL::BOOLEAN" if ordered else value.boolean
    return value.text if isinstance(operand, str) else value.number


def _among(
    value: SqlValue,
    operands: tuple[Scalar, ...],
    parameters: Parameters,
    *,
    negated: bool,
    in_lambda: bool,
) -> str:
    if not operands:
        return "TRUE" if negated else "FALSE"
    views: list[tuple[str, str, Callable[[Scalar], bool]]] = [
        (value.boolean, "BOOLEAN[]", lambda item: isinstance(item, bool)),
        (value.number, "DOUBLE[]", lambda item: isinstance(item, float)),
        (value.text, "VARCHAR[]", lambda item: isinstance(item, str)),
    ]
    tests = []
    for view, kind, belongs in views:
        if not (own := [item for item in operands if belongs(item)]):
            continue
        listed = parameters.add(own, kind)
        if in_lambda or len(own) <= LONGEST_WALKED_LIST:
            test = f"list_contains({listed}, {view})"
        else:
            test = f"({view} IN (SELECT unnest({listed})))"
        # NULL when the value is of another type, so that no type speaks for another.
        tests.append(f"CASE WHEN {view} IS NOT NULL THEN {'NOT ' if negated else ''}{test} END")
    return f"coalesce({', '.join(tests)})"


def read_time_sql(text: str) -> str:
    """Return the time that a text (SQL) names by the grammar of ``times``, else NULL."""
    time = f"try_cast(upper({text}) AS TIMESTAMPTZ)"
    return (
        f"CASE WHEN regexp_full_match({text}, '{TIME_PATTERN}') "
        f"AND {time} < TIMESTAMPTZ '10000-01-01 00:00:00+00' THEN {time} END"
    )


def _time_holds(time: str, comparison: Comparison, now: datetime, parameters: Parameters) -> str:
    op, operand = comparison
    if op in ("before", "after"):
        return f"{time} {'<' if op == 'before' else '>'} {parameters.add(operand)}"
    assert isinstance(operand, Duration)
    start, end = parameters.add(step_back(now, operand)), parameters.add(now)
    if op == "within_last":
        return f"({time} > {start} AND {time} <= {end})"
    return f"({time} <= {start} OR {time} > {end})"
