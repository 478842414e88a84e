"""Rates of currencies: which one holds on a day, and what an amount comes to by it. Pure.

A rate says how much of one currency a unit of another is, from its date (UTC) on until the next.
The newest at or before a day holds, whichever of the two directions it names; of one date the
direct one does. Nothing is converted by way of a third currency: such a rate is to be given.

Amounts are converted as whole numbers, exactly, and rounded once, half to the even minor unit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from cdp.money import minor_digits

MOST_DIGITS = 15
"""Significant digits of a rate, and places behind its point."""
LARGEST_RATE = Decimal(10**9)
_UNKNOWN_DIGITS = 2


class Rate(NamedTuple):
    """A unit of ``currency`` is ``rate`` of ``to``, from ``at`` on."""

    currency: str
    to: str
    at: date
    rate: Decimal


class Ratio(NamedTuple):
    """A rate as whole numbers: a unit is ``above`` / ``below``."""

    above: int
    below: int


ONE = Ratio(1, 1)


def read_rate(value: object) -> Decimal | None:
    """Read a rate as decimal text or a JSON number: positive, below 10^9, of up to 15 significant

    digits and 15 places. ``None`` for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        rate = Decimal(repr(value) if isinstance(value, float) else value).normalize()
    except InvalidOperation:
        return None
    if not rate.is_finite() or not 0 < rate < LARGEST_RATE:
        return None
    _, digits, exponent = rate.as_tuple()
    assert isinstance(exponent, int)
    return rate if len(digits) <= MOST_DIGITS and exponent >= -MOST_DIGITS else None


def as_ratio(rate: Decimal) -> Ratio:
    """Return a rate as whole numbers."""
    return Ratio(*rate.as_integer_ratio())


def find_day(placed_at: datetime) -> date:
    """Return the day whose rate holds for an order."""
    return placed_at.astimezone(UTC).date()


def convert_minor(amount: int, ratio: Ratio, currency: str, to: str) -> int:
    """Return ``amount``, in minor units of ``currency``, in minor units of ``to``."""
    above = ratio.above * 10 ** count_digits(to)
    below = ratio.below * 10 ** count_digits(currency)
    return divide_half_even(amount * above, below)


def divide_half_even(number: int, by: int) -> int:
    """Return ``number`` / ``by``, which is positive, rounded half to even."""
    quotient, rest = divmod(number, by)
    return quotient + (2 * rest > by or (2 * rest == by and quotient % 2 == 1))


def count_digits(currency: str) -> int:
    """Return the decimals of a currency; of an unknown one, two."""
    digits = minor_digits(currency)
    return _UNKNOWN_DIGITS if digits is None else digits


class RateTable:
    """Rates of any currencies, looked up by day."""

    def __init__(self, rates: Iterable[Rate] = ()) -> None:
        found: dict[tuple[str, str], dict[date, Ratio]] = defaultdict(dict)
        known = list(rates)
        for rate in known:
            above, below = as_ratio(rate.rate)
            found[rate.to, rate.currency][rate.at] = Ratio(below, above)
        # Afterwards, so that of one date the direct one stays.
        for rate in known:
            found[rate.currency, rate.to][rate.at] = as_ratio(rate.rate)
        self._days = {pair: sorted(by_day) for pair, by_day in found.items()}
        self._ratios = dict(found)

    def find(self, currency: str, to: str, day: date) -> Ratio | None:
        """Return the rate that holds on ``day``; ``None`` when there is none yet."""
        if currency == to:
            return ONE
        days = self._days.get((currency, to), [])
        place = bisect_right(days, day)
        return self._ratios[currency, to][days[place - 1]] if place else None

    def convert(self, amount: int, currency: str, to: str, placed_at: datetime) -> int | None:
        """Return ``amount``, in minor units, in minor units of ``to``, by the rate of an order

        placed at ``placed_at``; ``None`` without a rate.
        """
        ratio = self.find(currency, to, find_day(placed_at))
        return None if ratio is None else convert_minor(amount, ratio, currency, to)


NO_RATES = RateTable()
