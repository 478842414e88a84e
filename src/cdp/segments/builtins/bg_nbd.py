"""BG/NBD: how often somebody will buy again, and whether they are still a customer. Pure.

Fader, Hardie and Lee, "'Counting Your Customers' the Easy Way: An Alternative to the Pareto/NBD
Model", Marketing Science 24 (2005). Equation numbers are theirs.

``x`` counts repeat purchase *days*; ``t_x`` and ``age`` run from the first, in one unit of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1

from cdp.segments.builtins.figures import Numbers

# The likelihood is divided by (a - 1) in forecasts; there it is continuous, the formula is not.
_AWAY_FROM_ONE = 1e-7
_LARGEST_LOG = 12.0


@dataclass(frozen=True, slots=True)
class PurchaseModel:
    """Parameters: purchase rates are gamma(r, alpha), drop-out shares beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float = float("nan")


def log_likelihood(model: PurchaseModel, x: Numbers, t_x: Numbers, age: Numbers) -> Numbers:
    """Return each customer's log-likelihood (6), in logarithms throughout."""
    r, alpha, a, b = model.r, model.alpha, model.a, model.b
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    alive = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + age)
    is_repeat = x > 0
    gone = np.where(
        is_repeat,
        betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b) - (r + x) * np.log(alpha + t_x),
        -np.inf,
    )
    return np.asarray(common + np.logaddexp(alive, gone))


def fit_purchases(
    x: Numbers, t_x: Numbers, age: Numbers, weights: Numbers | None = None
) -> PurchaseModel | None:
    """Return the maximum-likelihood parameters; ``None`` when the search finds none.

    ``weights``: how many customers share a row. The search runs over logarithms, so parameters stay
    positive, first by gradient, then by simplex to the last digit.
    """
    rows, counts = _gather(x, t_x, age, weights)
    if not len(counts) or not (rows[0] > 0).any():
        return None
    total = counts.sum()
    # In units of the longest age, whatever the data's own unit.
    scale = float(rows[2].max()) or 1.0
    data = (rows[0], rows[1] / scale, rows[2] / scale)

    def loss(logs: Numbers) -> float:
        if np.abs(logs).max() > _LARGEST_LOG:
            return float("inf")
        r, alpha, a, b = np.exp(logs)
        value = -(log_likelihood(PurchaseModel(r, alpha, a, b), *data) * counts).sum() / total
        return float(value) if np.isfinite(value) else float("inf")

    bounds = [(-_LARGEST_LOG + 1, _LARGEST_LOG - 1)] * 4
    rough = minimize(loss, np.log([0.5, 0.2, 0.7, 2.0]), method="L-BFGS-B", bounds=bounds)
    found = minimize(
        loss,
        rough.x,
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000},
    )
    if not np.isfinite(found.fun) or np.abs(found.x).max() > _LARGEST_LOG - 2:
        return None
    r, alpha, a, b = (float(each) for each in np.exp(found.x))
    fitted = PurchaseModel(r, alpha * scale, a, b)
    likelihood = float((log_likelihood(fitted, *rows) * counts).sum())
    return PurchaseModel(fitted.r, fitted.alpha, fitted.a, fitted.b, likelihood)


def _gather(
    x: Numbers, t_x: Numbers, age: Numbers, weights: Numbers | None
) -> tuple[tuple[Numbers, Numbers, Numbers], Numbers]:
    """Return distinct customers and how many there are of each: most buy once."""
    stacked = np.column_stack([x, t_x, age]).astype(float)
    if not len(stacked):
        return (x, t_x, age), np.zeros(0)
    distinct, place = np.unique(stacked, axis=0, return_inverse=True)
    counts = np.bincount(place.ravel(), weights=weights, minlength=len(distinct)).astype(float)
    return (distinct[:, 0], distinct[:, 1], distinct[:, 2]), counts


def p_alive(model: PurchaseModel, x: Numbers, t_x: Numbers, age: Numbers) -> Numbers:
    """Return the chance that a customer still is one; 1 for whoever bought once."""
    return np.asarray(1 / (1 + _odds_gone(model, x, t_x, age)))


def _odds_gone(model: PurchaseModel, x: Numbers, t_x: Numbers, age: Numbers) -> Numbers:
    ratio = (model.r + x) * (np.log(model.alpha + age) - np.log(model.alpha + t_x))
    share = np.log(model.a) - np.log(model.b + np.maximum(x, 1) - 1)
    return np.asarray(np.where(x > 0, np.exp(np.minimum(ratio + share, 700)), 0.0))


def expected_purchases(
    model: PurchaseModel, horizon: float, x: Numbers, t_x: Numbers, age: Numbers
) -> Numbers:
    """Return the purchases expected in (age, age + horizon] (10).

    The hypergeometric function is taken after Euler's transformation: its powers of (1 - z) cancel
    those in front, and what is left converges where the printed form overflows.
    """
    r, alpha, a, b = model.r, model.alpha, model.a, model.b
    if abs(a - 1) < _AWAY_FROM_ONE:
        a = 1 + _AWAY_FROM_ONE
    z = horizon / (alpha + age + horizon)
    series = hyp2f1(a + b - 1 - r, a - 1, a + b + x - 1, z)
    share = 1 - (1 - z) ** (a - 1) * series
    purchases = (a + b + x - 1) / (a - 1) * share / (1 + _odds_gone(model, x, t_x, age))
    return np.asarray(np.maximum(purchases, 0.0))
