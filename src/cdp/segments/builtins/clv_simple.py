"""Customer lifetime value without a model: yearly value times margin times lifetime. Pure.

Gupta and Lehmann, "Customers as Assets", Journal of Interactive Marketing 17 (2003), for the
discounted contractual form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdp.money import read_money
from cdp.segments.builtins.figures import Flags, Numbers
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import mistake

DAYS_A_YEAR = 365
SHORTEST_TENURE_DAYS = 90
DEFAULT_CAP_YEARS = 5.0

CAPPED, REVENUE_ONLY, SHORT = "lifetime_capped", "revenue_ltv", "short_tenure"


@dataclass(frozen=True, slots=True)
class SimpleSettings:
    gross_margin: float | None
    annual_churn: float | None
    monthly_churn: float | None
    cac: Any
    """Minor units, or a money object."""
    lifetime_cap: float
    annual_discount: float | None
    zero_value_orders: bool

    @property
    def lifetime_years(self) -> float:
        """Return 1 / churn in years, up to the cap. A monthly rate gives months: 5 % a month is

        20 months, not the inverse of the yearly rate.
        """
        if self.monthly_churn is not None:
            years = np.inf if self.monthly_churn == 0 else 1 / self.monthly_churn / 12
        else:
            assert self.annual_churn is not None
            years = np.inf if self.annual_churn == 0 else 1 / self.annual_churn
        return float(min(years, self.lifetime_cap))

    @property
    def is_capped(self) -> bool:
        """Whether nobody would ever leave within the cap."""
        rate = self.monthly_churn if self.monthly_churn is not None else self.annual_churn
        assert rate is not None
        years_per = 12 if self.monthly_churn is not None else 1
        return rate == 0 or 1 / rate / years_per > self.lifetime_cap

    @property
    def yearly_churn(self) -> float:
        """Return the share of customers lost in a year; of a monthly rate 1 - (1 - c)^12."""
        if self.monthly_churn is not None:
            return float(1 - (1 - self.monthly_churn) ** 12)
        assert self.annual_churn is not None
        return self.annual_churn


@dataclass(frozen=True, slots=True)
class SimpleValues:
    """Per customer, money in minor units, NaN where it cannot be said."""

    yearly_value: Numbers
    lifetime_years: float
    gross: Numbers
    net: Numbers
    discounted: Numbers | None
    is_short: Flags


def read_settings(reader: SettingsReader) -> SimpleSettings:
    """Read the settings of ``clv`` with the model ``simple``."""
    reader.raw("model")
    margin = reader.number("gross_margin", low=0, high=1)
    annual = reader.number("annual_churn", low=0, high=1)
    monthly = reader.number("monthly_churn", low=0, high=1)
    if annual is not None and monthly is not None:
        raise mistake("two_forms", "give annual_churn or monthly_churn, not both", reader.path)
    if annual is None and monthly is None:
        message = "a lifetime needs annual_churn or monthly_churn, a share from 0 to 1"
        raise mistake("missing_part", message, reader.at("annual_churn"))
    cac = _read_cac(reader)
    cap = reader.number("lifetime_cap", DEFAULT_CAP_YEARS, low=0.01, high=100)
    discount = reader.number("annual_discount", low=0, high=10)
    zero = reader.flag("zero_value_orders")
    reader.finish()
    assert cap is not None
    return SimpleSettings(margin, annual, monthly, cac, cap, discount, zero)


def _read_cac(reader: SettingsReader) -> Any:
    given = reader.raw("cac")
    if isinstance(given, dict):
        if read_money(given, str(given.get("currency", "")).upper()) is None:
            raise reader.refuse("cac", 'money is {"amount": minor units, "currency": "CNY"}')
        return given
    return reader.number("cac", low=0)


def find_cac(settings: SimpleSettings, currency: str) -> float | None:
    """Return the cost of acquisition in minor units of ``currency``; ``None``: not known in it."""
    if isinstance(settings.cac, dict):
        return read_money(settings.cac, currency)
    cac: float | None = settings.cac
    return cac


def value_customers(
    settings: SimpleSettings, revenue: Numbers, tenure_days: Numbers, cac: float | None
) -> SimpleValues:
    """Return the value of customers with ``revenue`` (net, minor units) since their first order.

    A year's value is not guessed from less than 90 days.
    """
    is_short = tenure_days < SHORTEST_TENURE_DAYS
    yearly = np.where(is_short, np.nan, revenue * DAYS_A_YEAR / np.maximum(tenure_days, 1))
    margin = 1.0 if settings.gross_margin is None else settings.gross_margin
    years = settings.lifetime_years
    gross = yearly * margin * years
    net = np.full_like(gross, np.nan) if cac is None else gross - cac
    discounted = None
    if settings.annual_discount is not None:
        retention = 1 - settings.yearly_churn
        left = 1 + settings.annual_discount - retention
        discounted = yearly * margin * retention / left if left > 0 else np.full_like(gross, np.nan)
    return SimpleValues(yearly, years, gross, net, discounted, is_short)


def list_flags(settings: SimpleSettings, is_short: Flags) -> list[Sequence[str]]:
    """Return per customer what to know about the number."""
    common = [CAPPED] if settings.is_capped else []
    if settings.gross_margin is None:
        common = [*common, REVENUE_ONLY]
    both = [*common, SHORT]
    return [both if short else common for short in is_short.tolist()]
