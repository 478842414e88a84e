"""Churn risk by a trained model: logistic regression, tried on a later time than it learned. Pure.

Learned at one moment and tried at the next: who did not order in the period that followed. A random
split would let the model see the future of those it is tried on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdp.segments.builtins.figures import Flags, Numbers, lack

FEATURES = (
    "days_since_last", "order_days", "tenure_days", "mean_gap", "overdue", "log_revenue",
)  # fmt: skip
FEWEST_PEOPLE = 200
FEWEST_OF_A_KIND = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """What was known of the customers at a moment, and who did not order in the period after."""

    features: Numbers
    """A row per customer, a column per feature."""
    churned: Flags

    def find_missing(self, when: str) -> list[dict[str, Any]]:
        """Return what is missing to learn from it."""
        count, lost = len(self.churned), int(self.churned.sum())
        if count < FEWEST_PEOPLE:
            return [lack(f"customers {when}", count, FEWEST_PEOPLE)]
        return [
            lack(f"customers {when} who {did}", many, FEWEST_OF_A_KIND)
            for did, many in (("stayed", count - lost), ("left", lost))
            if many < FEWEST_OF_A_KIND
        ]


def make_features(
    days_since: Numbers, order_days: Numbers, tenure: Numbers, revenue: Numbers
) -> Numbers:
    """Return the matrix of ``FEATURES``; revenue in minor units."""
    mean_gap = (tenure - days_since) / np.maximum(order_days - 1, 1)
    overdue = days_since / np.maximum(mean_gap, 1)
    spent = np.log1p(np.maximum(revenue, 0))
    return np.column_stack(
        [days_since, order_days, tenure, mean_gap, np.minimum(overdue, 100), spent]
    )


def train(earlier: Moment, later: Moment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters learned at ``later``, and how well those learned at ``earlier``

    foretold ``later``: AUC, Brier score, predicted and observed churn.
    """
    # Loading scikit-learn takes longer than most tags take to compute.
    from sklearn.metrics import brier_score_loss, roc_auc_score

    foretold = predict(_fit(earlier), later.features)
    shown = {
        "auc": round(float(roc_auc_score(later.churned, foretold)), 6),
        "brier": round(float(brier_score_loss(later.churned, foretold)), 6),
        "predicted": round(float(foretold.mean()), 6),
        "observed": round(float(later.churned.mean()), 6),
        "trained_on": len(earlier.churned),
        "tried_on": len(later.churned),
    }
    fitted = _fit(later)
    return fitted, shown | {"coefficients": dict(zip(FEATURES, fitted["weights"], strict=True))}


def _fit(moment: Moment) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    pipeline.fit(moment.features, moment.churned)
    scaler, regression = pipeline[0], pipeline[-1]
    return {
        "means": scaler.mean_.tolist(),
        "scales": scaler.scale_.tolist(),
        "weights": regression.coef_[0].tolist(),
        "intercept": float(regression.intercept_[0]),
    }


def predict(fitted: Mapping[str, Any], features: Numbers) -> Numbers:
    """Return the chance of each row to churn."""
    scaled = (features - np.asarray(fitted["means"])) / np.asarray(fitted["scales"])
    logit = scaled @ np.asarray(fitted["weights"]) + fitted["intercept"]
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -500, 500))))
