"""Customer lifetime value from the two models together: settings, gate, discounted horizon. Pure.

Future purchases of each month are the difference of the cumulative expectation, discounted at the
month's end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdp.segments.builtins.figures import Numbers, lack
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.rules import Duration

UNIT_DAYS = {"day": 1.0, "week": 7.0, "month": 365.25 / 12}
_LENGTH_DAYS = {
    "m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0, "mo": 365.25 / 12, "y": 365.25,
}  # fmt: skip
MONTH_DAYS = UNIT_DAYS["month"]
LONGEST_HORIZON_DAYS = 3660
MOST_FITTED = 50_000
"""Customers that a model is fitted on; of more, a fixed sample: the parameters hardly move."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a prediction needs, as Klaviyo asks for it: else the answer is "not enough data"."""

    buyers: int = 500
    history_days: int = 180
    recent_days: int = 30
    repeat_orders: int = 3

    def find_missing(
        self, buyers: int, history_days: int, days_since_last: int, most_orders: int
    ) -> list[dict[str, Any]]:
        """Return what is missing; nothing when there is enough."""
        missing = []
        if buyers < self.buyers:
            missing.append(lack("buyers", buyers, self.buyers))
        if history_days < self.history_days:
            missing.append(lack("days of orders", history_days, self.history_days))
        if days_since_last > self.recent_days:
            words = f"no order in the last {self.recent_days} days"
            missing.append(
                lack("days since the last order", days_since_last, self.recent_days, words)
            )
        if most_orders < self.repeat_orders:
            words = f"nobody with {self.repeat_orders} orders"
            missing.append(lack("orders of one customer", most_orders, self.repeat_orders, words))
        return missing


PATTERNLESS = lack("pattern", None, None, "the purchases show no pattern that the model can fit")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    unit: str
    zero_value_orders: bool
    horizon_days: float
    monthly_discount: float
    gate: Gate

    @property
    def unit_days(self) -> float:
        """Return the days in the unit of time."""
        return UNIT_DAYS[self.unit]


def read_settings(reader: SettingsReader) -> ModelSettings:
    """Read the settings of ``clv`` with the model ``bg_nbd_gamma_gamma``."""
    reader.raw("model")
    unit = reader.choice("unit", tuple(UNIT_DAYS), "week")
    zero = reader.flag("zero_value_orders")
    horizon = reader.duration("horizon", "12mo")
    assert horizon is not None
    days = count_days(horizon)
    if not 1 <= days <= LONGEST_HORIZON_DAYS:
        raise reader.refuse("horizon", "a horizon is a day to ten years")
    discount = reader.number("monthly_discount", 0.01, low=0, high=1)
    gate = read_gate(reader)
    reader.finish()
    assert discount is not None
    return ModelSettings(unit, zero, days, discount, gate)


def read_gate(reader: SettingsReader) -> Gate:
    """Read ``gate``; what is left out is as Klaviyo has it."""
    inner = reader.inner("gate")
    gate = Gate(
        inner.whole("buyers", 500, low=2, high=10**9),
        inner.whole("history_days", 180, low=0, high=10**5),
        inner.whole("recent_days", 30, low=0, high=10**5),
        inner.whole("repeat_orders", 3, low=2, high=10**6),
    )
    inner.finish()
    return gate


def count_days(duration: Duration) -> float:
    """Return a duration in days; months and years at their average length."""
    return duration.amount * _LENGTH_DAYS[duration.unit]


def discounted_value(
    expected_until: Callable[[float], Numbers],
    value_each: Numbers,
    *,
    horizon: float,
    month: float,
    monthly_discount: float,
) -> Numbers:
    """Return the discounted value of the purchases in (now, now + horizon].

    ``expected_until(t)`` is the expectation up to t; ``horizon`` and ``month`` are in its unit. The
    last period may be a part of a month, discounted at its own end.
    """
    ends = np.arange(1, int(np.floor(horizon / month + 1e-9)) + 1) * month
    if not len(ends) or horizon - ends[-1] > 1e-9 * month:
        ends = np.append(ends, horizon)
    total = np.zeros_like(value_each)
    before = np.zeros_like(value_each)
    for end in ends.tolist():
        until = expected_until(end)
        total += (until - before) / (1 + monthly_discount) ** (end / month)
        before = until
    return np.asarray(total * value_each)


def show_model(settings: ModelSettings, purchases: Any, spend: Any, customers: int) -> Any:
    """Return what the tag shows as its model; ``spend`` may be ``None``."""
    return {
        "unit": settings.unit,
        "customers": customers,
        "purchases": {
            "r": purchases.r,
            "alpha": purchases.alpha,
            "a": purchases.a,
            "b": purchases.b,
            "log_likelihood": purchases.log_likelihood,
        },
        "spend": None
        if spend is None
        else {"p": spend.p, "q": spend.q, "v": spend.v, "customers": spend.customers},
        "horizon_days": settings.horizon_days,
        "monthly_discount": settings.monthly_discount,
    }
