"""Gamma-Gamma: what somebody will spend per purchase day. Pure.

Fader and Hardie, "The Gamma-Gamma Model of Monetary Value" (2013). Amounts are in major units: the
parameter v has the unit of money. Of customers with ``x`` repeat days of mean value ``m``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

from cdp.segments.builtins.figures import Numbers

_LARGEST_LOG = 12.0


@dataclass(frozen=True, slots=True)
class SpendModel:
    p: float
    q: float
    v: float
    customers: int = 0
    """How many it was fitted on: those with a repeat day and a value above nothing."""


def log_likelihood(model: SpendModel, x: Numbers, m: Numbers) -> Numbers:
    """Return each customer's log-likelihood (1a)."""
    p, q, v = model.p, model.q, model.v
    return np.asarray(
        gammaln(p * x + q)
        - gammaln(p * x)
        - gammaln(q)
        + q * np.log(v)
        + (p * x - 1) * np.log(m)
        + p * x * np.log(x)
        - (p * x + q) * np.log(x * m + v)
    )


def fit_spend(x: Numbers, m: Numbers) -> SpendModel | None:
    """Return the maximum-likelihood parameters over customers with x > 0 and m > 0; ``None`` when

    there are none or the search finds none.
    """
    counts = (x > 0) & (m > 0)
    x, m = x[counts], m[counts]
    if len(x) < 2:
        return None
    scale = float(np.mean(m))

    def loss(logs: Numbers) -> float:
        if np.abs(logs).max() > _LARGEST_LOG:
            return float("inf")
        p, q, v = np.exp(logs)
        value = -log_likelihood(SpendModel(p, q, v), x, m / scale).mean()
        return float(value) if np.isfinite(value) else float("inf")

    bounds = [(-_LARGEST_LOG + 1, _LARGEST_LOG - 1)] * 3
    rough = minimize(loss, np.log([5.0, 4.0, 0.5]), method="L-BFGS-B", bounds=bounds)
    found = minimize(
        loss,
        rough.x,
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 3000, "maxfev": 3000},
    )
    if not np.isfinite(found.fun) or np.abs(found.x).max() > _LARGEST_LOG - 2:
        return None
    p, q, v = (float(each) for each in np.exp(found.x))
    return SpendModel(p, q, v * scale, len(x))


def expected_value(model: SpendModel, x: Numbers, m: Numbers) -> Numbers:
    """Return the value expected of a purchase day (5): between the customer's own mean and the

    population's, the nearer to their own the more days they had. NaN when q is 1 or less, where the
    population has no mean, and the customer no days.
    """
    p, q, v = model.p, model.q, model.v
    below = p * x + q - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        value = p * (v + x * np.nan_to_num(m)) / below
    return np.asarray(np.where(below > 0, value, np.nan))
