"""Churn risk of people who are bound by nothing, by their own rhythm. Pure.

Whoever bought on three days or more has a rhythm: the median of their gaps. Everybody else is
measured by the gap within which nine of ten come back. The risk is how much of the limit has
passed; beyond it they count as churned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.figures import Flags, Numbers

FEWEST_DAYS = 3
OWN, POPULATION = "own_gap", "population_gap"


@dataclass(frozen=True, slots=True)
class GapRisk:
    risk: Numbers
    """0 to 1."""
    churned: Flags
    expected_gap: Numbers
    """Days within which the next order is due."""
    basis: NDArray[np.str_]


def rate_by_gap(
    days_since: Numbers, own_gap: Numbers, order_days: Numbers, population_gap: float, k: float
) -> GapRisk:
    """Return the risk of each customer: ``days_since`` the last order against ``k`` times their

    own median gap, or, with fewer than three days of orders, against the population's gap.
    """
    has_own = (order_days >= FEWEST_DAYS) & ~np.isnan(own_gap)
    limit = np.where(has_own, k * np.nan_to_num(own_gap), population_gap)
    risk = np.minimum(1.0, days_since / np.maximum(limit, 1e-9))
    basis = np.where(has_own, OWN, POPULATION)
    return GapRisk(risk, days_since > limit, np.asarray(limit), basis)
