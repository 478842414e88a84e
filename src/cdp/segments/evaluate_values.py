"""What each operator means for one JSON value: the rule language's operators in Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import TypeGuard

from cdp.segments import regex_engine
from cdp.segments.paths import elements
from cdp.segments.rules import (
    ABSENT_OPS,
    EVERY_ELEMENT_OPS,
    TEXT_OPS,
    Comparison,
    Duration,
    Op,
    Scalar,
)
from cdp.segments.times import read_time, step_back

Search = Callable[[str, str], bool]

_TEXT_TESTS: dict[Op, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "not_contains": lambda text, part: part not in text,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}


def value_holds(
    value: object,
    comparison: Comparison,
    now: datetime,
    search: Search = regex_engine.search,
) -> bool:
    """Whether ``comparison`` holds for a JSON value; ``None`` is absent, a list stands for its
    elements. ``search(pattern, text)`` is the RE2 engine behind ``matches``."""
    op = comparison.op
    if op in ("exists", "not_exists"):
        return (value is not None) == (op == "exists")
    if value is None:
        return op in ABSENT_OPS
    if not isinstance(value, list):
        return scalar_holds(value, comparison, now, search)
    verdicts = [scalar_holds(item, comparison, now, search) for item in elements(value)]
    return all(verdicts) if op in EVERY_ELEMENT_OPS else any(verdicts)


def scalar_holds(
    value: object,
    comparison: Comparison,
    now: datetime,
    search: Search = regex_engine.search,
) -> bool:
    """Whether ``comparison`` holds for one present value; false where the types do not match."""
    op, operand = comparison
    if op in ("in", "not_in"):
        assert isinstance(operand, tuple)
        return _among(value, operand, negated=op == "not_in")
    if op in TEXT_OPS:
        assert isinstance(operand, str)
        if not isinstance(value, str):
            return False
        return search(operand, value) if op == "matches" else _TEXT_TESTS[op](value, operand)
    if op in ("before", "after", "within_last", "not_within_last"):
        time = read_time(value) if isinstance(value, str) else None
        return time is not None and _time_holds(time, comparison, now)
    if op == "between":
        assert isinstance(operand, tuple)
        low, high = operand
        return _ordered("gte", value, low) and _ordered("lte", value, high)
    assert isinstance(operand, (str, float, bool))
    if op in ("eq", "ne"):
        return _same_type(value, operand) and (_plain(value) == operand) == (op == "eq")
    return _ordered(op, value, operand)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_double(number: int | float) -> float:
    """Return the double that a JSON number is in a rule."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _plain(value: object) -> object:
    return as_double(value) if is_number(value) else value


def _same_type(value: object, operand: Scalar) -> bool:
    if isinstance(operand, bool):
        return isinstance(value, bool)
    if isinstance(operand, str):
        return isinstance(value, str)
    return is_number(value)


def _ordered(op: Op, value: object, operand: Scalar) -> bool:
    """Compare numbers with numbers, texts by code point; booleans have no order."""
    if isinstance(operand, bool) or not _same_type(value, operand):
        return False
    given, bound = _plain(value), operand
    match op:
        case "gt":
            return given > bound  # type: ignore[operator]
        case "gte":
            return given >= bound  # type: ignore[operator]
        case "lt":
            return given < bound  # type: ignore[operator]
        case _:
            return given <= bound  # type: ignore[operator]


def _among(value: object, operands: tuple[Scalar, ...], *, negated: bool) -> bool:
    if not operands:
        return negated
    own = [item for item in operands if _same_type(value, item)]
    return bool(own) and (_plain(value) in own) != negated


def _time_holds(time: datetime, comparison: Comparison, now: datetime) -> bool:
    op, operand = comparison
    if isinstance(operand, Duration):
        is_within = step_back(now, operand) < time <= now
        return is_within == (op == "within_last")
    assert isinstance(operand, datetime)
    return time < operand if op == "before" else time > operand
