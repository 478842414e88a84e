"""Churn of people under contract. Pure.

Churn rate = customers at the start who left in the period / customers at the start. Whoever joined
in the period is in neither. Retention = 1 - churn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cdp.segments.builtins.figures import Numbers


def count_churn(started: Numbers, ended: Numbers, start: float, end: float) -> dict[str, Any]:
    """Return the period's figures from contracts' starts and ends (NaN: still runs), as numbers on

    one scale of time. The rates are ``None`` when there was nobody at the start.
    """
    has_ended = ~np.isnan(ended)
    at_start = (started <= start) & ~(has_ended & (np.nan_to_num(ended) <= start))
    left = at_start & has_ended & (np.nan_to_num(ended) <= end)
    joined = (started > start) & (started <= end)
    customers, lost = int(at_start.sum()), int(left.sum())
    rate = lost / customers if customers else None
    return {
        "customers_at_start": customers,
        "left": lost,
        "joined": int(joined.sum()),
        "churn_rate": rate,
        "retention": None if rate is None else 1 - rate,
    }
