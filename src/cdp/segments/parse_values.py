"""Read the parts of a rule document that carry values: operators, operands, windows, paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from cdp.errors import Unprocessable
from cdp.segments.paths import read_path
from cdp.segments.rules import (
    CALENDAR_UNITS,
    COUNT_OPS,
    OPS,
    TEXT_OPS,
    BetweenWindow,
    CalendarWindow,
    Comparison,
    Duration,
    LastWindow,
    Op,
    Operand,
    Path,
    Scalar,
    SinceWindow,
    Window,
)
from cdp.segments.times import read_duration, read_time

LARGEST_OFFSET = 100_000
PatternCheck = Callable[[str], str | None]


def mistake(code: str, message: str, pointer: str) -> Unprocessable:
    """Return the 422 for the mistake at ``pointer``, to be raised."""
    return Unprocessable(code, message, path=pointer)


def below(pointer: str, token: str | int) -> str:
    """Return the JSON Pointer of a member (RFC 6901: ``~`` and ``/`` are escaped)."""
    return f"{pointer}/{str(token).replace('~', '~0').replace('/', '~1')}"


def require_keys(
    document: Mapping[str, Any], pointer: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Refuse a key that does not belong into ``document``, then a needed one that is missing."""
    for key in document:
        if key not in needed and key not in optional:
            known = ", ".join([*needed, *optional])
            raise mistake(
                "unknown_key", f"'{key}' does not belong here; known: {known}", below(pointer, key)
            )
    for key in needed:
        if key not in document:
            raise mistake("missing_part", f"'{key}' is missing", below(pointer, key))


def read_object(value: object, pointer: str, what: str) -> Mapping[str, Any]:
    """Return ``value`` as a JSON object."""
    if not isinstance(value, dict):
        raise mistake("bad_value", f"{what} is an object", pointer)
    return value


def read_list(value: object, pointer: str, what: str) -> list[Any]:
    """Return ``value`` as a JSON list."""
    if not isinstance(value, list):
        raise mistake("bad_value", f"{what} is a list", pointer)
    return value


def read_text(value: object, pointer: str, what: str, *, may_be_empty: bool = False) -> str:
    """Return ``value`` as text; U+0000 becomes U+FFFD, as on the wire."""
    if not isinstance(value, str) or (not value and not may_be_empty):
        raise mistake(
            "bad_value", f"{what} is a text{'' if may_be_empty else ', not empty'}", pointer
        )
    return clean_text(value)


def clean_text(text: str) -> str:
    """Return ``text`` as the wire keeps it: without U+0000 and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return "".join("�" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def read_value_path(value: object, pointer: str, what: str) -> Path:
    """Return a dotted path as its names."""
    return read_path(read_text(value, pointer, what))


def read_comparison(
    document: Mapping[str, Any],
    pointer: str,
    check_pattern: PatternCheck,
    normalise: Callable[[Scalar], Scalar] = lambda value: value,
) -> Comparison:
    """Read ``op`` and ``value``; ``normalise`` is applied to operands of eq, ne, in, not_in."""
    op = _read_op(document, pointer, OPS)
    where = below(pointer, "value")
    if op in ("exists", "not_exists"):
        if "value" in document:
            raise mistake("bad_value", f"{op} takes no value", where)
        return Comparison(op)
    if "value" not in document:
        raise mistake("missing_part", f"{op} needs a value", where)
    operand = _read_operand(op, document["value"], where, check_pattern)
    if op in ("in", "not_in") and isinstance(operand, tuple):
        return Comparison(op, tuple(normalise(item) for item in operand))
    if op in ("eq", "ne") and isinstance(operand, (str, float, bool)):
        return Comparison(op, normalise(operand))
    return Comparison(op, operand)


def read_count(value: object, pointer: str) -> Comparison:
    """Read a ``count``: a comparison of numbers."""
    document = read_object(value, pointer, "count")
    require_keys(document, pointer, ("op", "value"))
    op = _read_op(document, pointer, COUNT_OPS)
    where = below(pointer, "value")
    operand = _read_operand(op, document["value"], where, lambda _: None)
    for number in operand if isinstance(operand, tuple) else (operand,):
        if not isinstance(number, float):
            raise mistake("bad_value", "a count compares with numbers", where)
    return Comparison(op, operand)


def _read_op(document: Mapping[str, Any], pointer: str, known: tuple[Op, ...]) -> Op:
    where = below(pointer, "op")
    if "op" not in document:
        raise mistake("missing_part", "'op' is missing", where)
    op = document["op"]
    if not isinstance(op, str) or op not in known:
        raise mistake("unknown_op", f"{op!r} is no operator here; known: {', '.join(known)}", where)
    return op


def _read_operand(op: Op, value: object, pointer: str, check_pattern: PatternCheck) -> Operand:
    if op in ("in", "not_in"):
        return _read_scalars(value, pointer)
    if op == "between":
        return _read_range(value, pointer)
    if op in ("before", "after"):
        return _read_time(value, pointer)
    if op in ("within_last", "not_within_last"):
        return read_rule_duration(value, pointer)
    if op in TEXT_OPS:
        text = read_text(value, pointer, f"the value of {op}", may_be_empty=True)
        if op == "matches" and (reason := check_pattern(text)):
            raise mistake("bad_pattern", f"RE2 refuses the pattern: {reason}", pointer)
        return text
    return read_scalar(value, pointer)


def read_scalar(value: object, pointer: str) -> Scalar:
    """Return a text, a boolean or a finite number (as a double)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise mistake("bad_value", "the value is one text, finite number or boolean", pointer)


def _read_scalars(value: object, pointer: str) -> tuple[Scalar, ...]:
    items = read_list(value, pointer, "the value of in and not_in")
    return tuple(read_scalar(item, below(pointer, index)) for index, item in enumerate(items))


def _read_range(value: object, pointer: str) -> tuple[Scalar, ...]:
    items = read_list(value, pointer, "the value of between")
    if len(items) != 2:
        raise mistake("bad_value", "between takes two values, the lowest and the highest", pointer)
    ends = tuple(read_scalar(item, below(pointer, index)) for index, item in enumerate(items))
    if type(ends[0]) is not type(ends[1]):
        raise mistake("bad_value", "the two values of between are of one type", pointer)
    return ends


def _read_time(value: object, pointer: str) -> datetime:
    time = read_time(value) if isinstance(value, str) else None
    if time is None:
        raise mistake("bad_value", "a time is RFC 3339 (2026-03-01T08:00:00Z) or a date", pointer)
    return time


def read_rule_duration(value: object, pointer: str) -> Duration:
    """Read a duration such as ``30d``."""
    duration = read_duration(value) if isinstance(value, str) else None
    if duration is None:
        raise mistake(
            "bad_value", "a duration is a number with a unit: m, h, d, w, mo or y", pointer
        )
    return duration


def read_window(value: object, pointer: str) -> Window:
    """Read a ``within``: last, since, between or calendar."""
    document = read_object(value, pointer, "a window")
    forms = [key for key in ("last", "since", "between", "calendar") if key in document]
    if len(forms) != 1:
        raise mistake(
            "unknown_window", "a window is one of last, since, between, calendar", pointer
        )
    form, where = forms[0], below(pointer, forms[0])
    require_keys(document, pointer, forms, ("offset", "tz") if form == "calendar" else ())
    if form == "last":
        return LastWindow(read_rule_duration(document[form], where))
    if form == "since":
        return SinceWindow(_read_time(document[form], where))
    if form == "between":
        ends = read_list(document[form], where, "a between window")
        if len(ends) != 2:
            raise mistake("bad_value", "a between window has a start and an end", where)
        start, end = (_read_time(item, below(where, index)) for index, item in enumerate(ends))
        return BetweenWindow(start, end)
    return _read_calendar(document, pointer)


def _read_calendar(document: Mapping[str, Any], pointer: str) -> CalendarWindow:
    unit, offset, zone = document["calendar"], document.get("offset", 0), document.get("tz")
    if not isinstance(unit, str) or unit not in CALENDAR_UNITS:
        known = ", ".join(CALENDAR_UNITS)
        raise mistake(
            "unknown_unit", f"a calendar window is one of {known}", below(pointer, "calendar")
        )
    if not isinstance(offset, int) or isinstance(offset, bool) or abs(offset) > LARGEST_OFFSET:
        raise mistake(
            "bad_value", "offset is a whole number, -1 the one before", below(pointer, "offset")
        )
    if "tz" in document and not is_timezone(zone):
        raise mistake("unknown_zone", f"{zone!r} is no IANA time zone", below(pointer, "tz"))
    return CalendarWindow(unit, offset, zone)


def is_timezone(name: object) -> bool:
    """Whether ``name`` is an IANA zone that this machine knows."""
    if not isinstance(name, str) or not name:
        return False
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
