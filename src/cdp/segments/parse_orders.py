"""The parts of a rule over orders that differ from those over events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdp.money import minor_digits
from cdp.segments.order_fields import LINE, FieldType, find_type, list_fields
from cdp.segments.parse_values import (
    PatternCheck,
    below,
    mistake,
    read_comparison,
    read_list,
    read_object,
    read_scalar,
    read_text,
    read_value_path,
    read_window,
    require_keys,
)
from cdp.segments.rules import (
    NUMBER_FUNCTIONS,
    Comparison,
    Function,
    Money,
    MoneyComparison,
    Op,
    OrderCondition,
    Orders,
    Path,
    Scalar,
)

_MONEY_OPS: dict[str, Op] = {
    "eq": "eq", "ne": "ne", "gt": "gt", "gte": "gte", "lt": "lt", "lte": "lte",
    "between": "between", "in": "in", "not_in": "not_in",
}  # fmt: skip
# Of these figures it is clear in which currency they are.
_MONEY_FUNCTIONS = NUMBER_FUNCTIONS | {"first", "last"}


def read_orders(node: Mapping[str, Any], pointer: str, check_pattern: PatternCheck) -> Orders:
    """Read the parts that say which orders are meant: ``orders``, with its ``where``; within."""
    at = below(pointer, "orders")
    body = read_object(node["orders"], at, "'orders'")
    require_keys(body, at, (), ("where",))
    where: list[OrderCondition] = []
    line_where: list[OrderCondition] = []
    at = below(at, "where")
    for index, item in enumerate(read_list(body.get("where", []), at, "'where'")):
        path, comparison = _read_condition(item, below(at, index), check_pattern)
        chosen = line_where if path[0] == LINE else where
        chosen.append(OrderCondition(path[-1], comparison))
    within = read_window(node["within"], below(pointer, "within")) if "within" in node else None
    return Orders(tuple(where), tuple(line_where), within)


def _read_condition(
    value: object, pointer: str, check_pattern: PatternCheck
) -> tuple[Path, Comparison | MoneyComparison]:
    node = read_object(value, pointer, "a condition")
    require_keys(node, pointer, ("property", "op"), ("value",))
    path, kind = read_field(node["property"], below(pointer, "property"))
    return path, read_order_comparison(node, pointer, check_pattern, takes_money=kind == "money")


def read_field(value: object, pointer: str) -> tuple[Path, FieldType]:
    """Read the name of an order's field."""
    path = read_value_path(value, pointer, "a property")
    kind = find_type(path)
    if kind is None:
        name = ".".join(path)
        raise mistake("unknown_field", f"orders have no '{name}'; known: {list_fields()}", pointer)
    return path, kind


def read_conversion(
    aggregate: Mapping[str, Any], pointer: str, function: Function, kind: FieldType | None
) -> str | None:
    """Read the ``currency`` that an aggregate converts into, if it names one."""
    if "currency" not in aggregate:
        return None
    at = below(pointer, "currency")
    if function not in NUMBER_FUNCTIONS or kind != "money":
        known = ", ".join(sorted(NUMBER_FUNCTIONS))
        raise mistake("bad_value", f"only {known} of amounts are converted", at)
    return _read_currency(aggregate["currency"], at)


def read_order_comparison(
    document: Mapping[str, Any], pointer: str, check_pattern: PatternCheck, *, takes_money: bool
) -> Comparison | MoneyComparison:
    """Read ``op`` and ``value``, in which money objects may stand."""
    value, op = document.get("value"), document.get("op")
    items = value if isinstance(value, list) else [value]
    if not any(isinstance(item, dict) for item in items) or op not in _MONEY_OPS:
        return read_comparison(document, pointer, check_pattern)
    at = below(pointer, "value")
    if not takes_money:
        raise mistake("bad_value", "money compares with amounts in one currency", at)
    known = _MONEY_OPS[op]
    if known in ("in", "not_in", "between"):
        listed = read_list(value, at, f"the value of {known}")
        operands = tuple(_read_operand(item, below(at, n)) for n, item in enumerate(listed))
        if known == "between":
            _require_range(operands, at)
        return MoneyComparison(known, operands)
    return MoneyComparison(known, _read_money(value, at))


def compares_with_money(function: Function, kind: FieldType | None) -> bool:
    """Whether a figure has a currency."""
    return kind == "money" and function in _MONEY_FUNCTIONS


def _read_operand(value: object, pointer: str) -> Scalar | Money:
    return _read_money(value, pointer) if isinstance(value, dict) else read_scalar(value, pointer)


def _require_range(operands: tuple[Scalar | Money, ...], pointer: str) -> None:
    currencies = {each.currency if isinstance(each, Money) else None for each in operands}
    if len(operands) != 2 or len(currencies) != 1:
        raise mistake("bad_value", "between takes two amounts of one currency", pointer)


def _read_money(value: object, pointer: str) -> Money:
    node = read_object(value, pointer, "money")
    require_keys(node, pointer, ("amount", "currency"))
    currency = _read_currency(node["currency"], below(pointer, "currency"))
    amount = node["amount"]
    if isinstance(amount, bool) or not isinstance(amount, int) or abs(amount) > 10**15:
        message = "an amount is a whole number of minor units"
        raise mistake("bad_value", message, below(pointer, "amount"))
    return Money(amount / 10 ** (minor_digits(currency) or 0), currency)


def _read_currency(value: object, pointer: str) -> str:
    currency = read_text(value, pointer, "a currency").upper()
    if minor_digits(currency) is None:
        raise mistake("bad_value", f"{currency!r} is no ISO 4217 currency", pointer)
    return currency
