"""Money: a whole number of minor units with an ISO 4217 currency, converted once, exactly."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from iso4217 import Currency

# What a bigint holds, so that sums of many orders still do.
LARGEST_MINOR = 10**15
UNNAMED_DIGITS = 4
"""Decimals kept of an amount whose currency is not known yet: no currency has more."""


@lru_cache(maxsize=512)
def minor_digits(currency: str) -> int | None:
    """Return how many decimals a currency has (CNY 2, JPY 0, KWD 3); ``None`` when there is no

    such currency, or it is none that people pay in (gold).
    """
    try:
        digits: int | None = Currency(currency).exponent
    except ValueError:
        return None
    return digits


def list_currencies() -> dict[str, int]:
    """Return the decimals of every currency that people pay in, by its code."""
    return {c.code: c.exponent for c in Currency if c.exponent is not None}


def to_minor(amount: Decimal, currency: str) -> int | None:
    """Return ``amount`` in minor units of ``currency``, rounded half up beyond its decimals:

    senders compute with floats, and 19.990000000000002 means 19.99. ``None`` when it is not a
    finite amount of a known currency, or beyond 10^15 minor units.
    """
    digits = minor_digits(currency)
    return None if digits is None else _count_units(amount, digits)


def _count_units(amount: Decimal, digits: int) -> int | None:
    """Return ``amount`` in units of 10^-``digits``, as ``to_minor`` does."""
    if not amount.is_finite():
        return None
    try:
        minor = int(amount.scaleb(digits).to_integral_value(ROUND_HALF_UP))
    except InvalidOperation:
        return None
    return minor if abs(minor) <= LARGEST_MINOR else None


def read_money(value: Any, currency: str) -> int | None:
    """Read a money object, a JSON number or decimal text as minor units of ``currency``.

    ``None`` for anything else, a money object of another currency included.
    """
    match value:
        case {"amount": int() as amount, "currency": str() as own} if not isinstance(amount, bool):
            same = own.upper() == currency
            return amount if same and abs(amount) <= LARGEST_MINOR else None
    decimal = _read_decimal(value)
    return None if decimal is None else to_minor(decimal, currency)


def read_unnamed(value: Any) -> int | None:
    """Read a JSON number or decimal text whose currency is not known yet, in units of

    10^-``UNNAMED_DIGITS``; ``None`` for anything else.
    """
    decimal = _read_decimal(value)
    return None if decimal is None else _count_units(decimal, UNNAMED_DIGITS)


def name_currency(amount: int, currency: str) -> int | None:
    """Return what ``read_unnamed`` gave in minor units of ``currency``, as ``to_minor`` does."""
    return to_minor(Decimal(amount).scaleb(-UNNAMED_DIGITS), currency)


def _read_decimal(value: Any) -> Decimal | None:
    match value:
        case bool():
            return None
        case int() | Decimal():
            return Decimal(value)
        case float():
            return Decimal(repr(value))
        case str():
            try:
                return Decimal(value.strip())
            except InvalidOperation:
                return None
    return None
