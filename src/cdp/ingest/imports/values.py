"""From a cell to a value of a field: numbers, times, money as people write them. Pure.

A converter takes a cell that is not empty and raises ``ValueError`` with what was expected. The
message never repeats the cell, which may be somebody's birthday.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from cdp.ingest.imports.mapping import Column
from cdp.ingest.imports.written_time import in_zone, read_moment
from cdp.money import minor_digits, to_minor
from cdp.runtime.clock import format_time

Convert = Callable[[Any], Any]
_PLAIN_TYPES = frozenset({str, int, bool})

_TRUE = frozenset({"true", "t", "yes", "y", "1", "on", "是", "有", "对", "真", "√"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "off", "否", "无", "错", "假", "×"})
_MONEY_SIGNS = re.compile(
    r"[\s,，_'’]|CNY|RMB|人民币|元|圆|US\$|HK\$|USD|EUR|[¥￥$€£]", re.IGNORECASE
)
_THOUSANDS = re.compile(r"[\s,，_'’]")
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,9})?")
_FIRST = frozenset("-0123456789tf")
# Digits that are a name rather than an amount.
_NAMES = re.compile(
    r"(?:^|[._\s-])(?:id|no|nr|number|code|zip|postcode|postal|sku|ean|upc|isbn|barcode|phone|mobile"
    r"|tel|telephone|fax|card)$|(?:[a-z](?:Id|No|Code))$|(?:号|码|编号|电话|手机)$",
)


def make_converter(column: Column, *, target: str, timezone: str, currency: str) -> Convert | None:
    """Return how cells of ``column`` become values; ``None`` when they stay as they are.

    ``timezone`` and ``currency`` hold where neither cell nor column says one.
    """
    convert = _choose(column, target, column.timezone or timezone, column.currency or currency)
    if not column.values:
        return convert
    return _replacing(column.values, convert)


def _replacing(values: Mapping[str, Any], convert: Convert | None) -> Convert:
    def replace(cell: Any) -> Any:
        text = str(cell).strip()
        if text in values:
            return values[text]
        return convert(cell) if convert is not None else cell

    return replace


def _choose(column: Column, target: str, timezone: str, currency: str) -> Convert | None:
    match column.type:
        case "text":
            return read_text
        case "number":
            return read_number
        case "integer":
            return read_integer
        case "boolean":
            return _make_boolean(column.true or _TRUE, column.false or _FALSE)
        case "time":
            return _make_time(column.formats, timezone)
        case "date":
            return _make_date(column.formats, timezone)
        case "money":
            return _make_money(currency, as_object=target.partition(".")[0] == "traits")
        case "list":
            return _make_list(column.separator)
        case "json":
            return read_json
        case "auto":
            return None if _NAMES.search(target) else guess
    return None


def read_text(cell: Any) -> str:
    """Return the cell as text, whole numbers without a fraction."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime):
        return cell.isoformat()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


def _read_decimal(cell: Any, signs: re.Pattern[str], what: str) -> Decimal:
    if isinstance(cell, bool):
        raise ValueError(what)
    try:
        if isinstance(cell, str):
            text = signs.sub("", cell)
            if text.startswith(("(", "（")) and text.endswith((")", "）")):
                text = f"-{text[1:-1]}"
            value = Decimal(text)
        else:
            value = Decimal(repr(cell)) if isinstance(cell, float) else Decimal(cell)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ValueError(what) from error
    if not value.is_finite():
        raise ValueError(what)
    return value


def read_number(cell: Any) -> int | float:
    """Return a number from digits with or without separators of thousands."""
    if isinstance(cell, int | float) and not isinstance(cell, bool) and cell == cell:
        return cell
    text, is_share = cell, False
    if isinstance(cell, str):
        text = cell.strip()
        is_share = text.endswith(("%", "％"))
        text = text.rstrip("%％")
    value = _read_decimal(text, _THOUSANDS, "not a number")
    if is_share:
        value /= 100
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    number = float(value)
    if number in (float("inf"), float("-inf")):
        raise ValueError("not a number")
    return number


def read_integer(cell: Any) -> int:
    """Return a whole number."""
    value = _read_decimal(cell, _THOUSANDS, "not a whole number")
    if value != value.to_integral_value() or abs(value) >= 2**63:
        raise ValueError("not a whole number")
    return int(value)


def _make_boolean(true: frozenset[str], false: frozenset[str]) -> Convert:
    def read_boolean(cell: Any) -> bool:
        text = read_text(cell).casefold()
        if text in true:
            return True
        if text in false:
            return False
        raise ValueError("neither true nor false")

    return read_boolean


def _make_time(formats: tuple[str, ...], timezone: str) -> Convert:
    zone = _zone(timezone)

    def convert(cell: Any) -> str:
        return format_time(in_zone(read_moment(cell, formats), zone))

    return convert


def _make_date(formats: tuple[str, ...], timezone: str) -> Convert:
    zone = _zone(timezone)

    def convert(cell: Any) -> str:
        if isinstance(cell, date) and not isinstance(cell, datetime):
            return cell.isoformat()
        moment = read_moment(cell, formats)
        # The day on the calendar of those who wrote it.
        return (moment if moment.tzinfo is None else moment.astimezone(zone)).date().isoformat()

    return convert


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _make_money(currency: str, *, as_object: bool) -> Convert:
    digits = minor_digits(currency) or 0

    def read_money(cell: Any) -> Any:
        if isinstance(cell, Mapping):
            return cell
        amount = _read_decimal(cell, _MONEY_SIGNS, f"not an amount in {currency}")
        minor = to_minor(amount, currency)
        if minor is None:
            raise ValueError(f"not an amount in {currency}")
        if as_object:
            return {"amount": minor, "currency": currency}
        return Decimal(minor).scaleb(-digits)

    return read_money


def _make_list(separator: str) -> Convert:
    def read_list(cell: Any) -> list[Any]:
        if not isinstance(cell, str):
            return list(cell) if isinstance(cell, list | tuple) else [cell]
        return [part.strip() for part in cell.split(separator) if part.strip()]

    return read_list


def read_json(cell: Any) -> Any:
    """Return what JSON text says; anything but text is taken as it is."""
    if not isinstance(cell, str):
        return cell
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError("not JSON") from error


def read_object(cell: Any) -> Any:
    """Return a wire field's object or list, from JSON text or as a Parquet column has it."""
    value = read_json(cell)
    if not isinstance(value, dict | list):
        raise ValueError("neither a JSON object nor a list")
    return value


def guess(cell: Any) -> Any:
    """Return a number or a boolean for text that says exactly one, else the text."""
    # Most cells are words, which their first character tells.
    if not isinstance(cell, str) or cell[:1] not in _FIRST:
        return cell
    if _PLAIN_NUMBER.fullmatch(cell):
        return float(cell) if "." in cell else int(cell)
    if cell in ("true", "false"):
        return cell == "true"
    return cell


def make_plain(value: Any) -> Any:
    """Return a value of a Parquet column as JSON has it: times as text, bytes as text."""
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, datetime):
        return format_time(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, dict):
        return {str(key): make_plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [make_plain(inner) for inner in value]
    return value
