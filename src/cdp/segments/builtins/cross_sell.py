"""Cross-selling: who bought A bought B within some months after. Pure.

Support, confidence and lift of Agrawal, Imielinski and Swami, "Mining Association Rules between
Sets of Items in Large Databases" (SIGMOD 1993), with the order in time and a window between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cdp.segments.builtins.clv_model import count_days
from cdp.segments.builtins.figures import Numbers
from cdp.segments.builtins.settings import SettingsReader

MOST_RULES = 2000
SHOWN_RULES = 100


@dataclass(frozen=True, slots=True)
class CrossSellSettings:
    by: str
    within_days: int
    min_customers: int
    """Who must have followed a rule for it to be one."""
    min_confidence: float
    min_lift: float
    most: int
    zero_value_orders: bool


def read_settings(reader: SettingsReader) -> CrossSellSettings:
    """Read the settings of ``cross_sell``."""
    by = reader.choice("by", ("category", "sku"), "category")
    within = reader.duration("within", "3mo")
    assert within is not None
    days = round(count_days(within))
    if not 1 <= days <= 3660:
        raise reader.refuse("within", "a lag is a day to ten years")
    fewest = reader.whole("min_customers", 5, low=1, high=10**9)
    confidence = reader.number("min_confidence", 0.05, low=0, high=1)
    lift = reader.number("min_lift", 1.0, low=0)
    most = reader.whole("most", 5, low=1, high=50)
    zero = reader.flag("zero_value_orders")
    reader.finish()
    assert confidence is not None
    assert lift is not None
    return CrossSellSettings(by, days, fewest, confidence, lift, most, zero)


@dataclass(frozen=True, slots=True)
class Strength:
    support: Numbers
    confidence: Numbers
    lift: Numbers


def measure(followed: Numbers, bought_a: Numbers, bought_b: Numbers, customers: int) -> Strength:
    """Return how strong each rule "A, then B" is.

    ``followed``: who bought B within the window after their first A; ``bought_a``: whose first A is
    longer ago than the window, so that they had the time; ``bought_b``: who ever bought B.
    support = followed / customers, confidence = followed / bought A, lift = confidence / share of
    the customers who bought B.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        support = followed / customers if customers else np.zeros_like(followed)
        confidence = np.where(bought_a > 0, followed / bought_a, 0.0)
        lift = np.where(bought_b > 0, confidence * customers / bought_b, 0.0)
    return Strength(np.asarray(support), np.asarray(confidence), np.asarray(lift))


def show_rules(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the strongest rules, for people."""
    return rules[:SHOWN_RULES]
