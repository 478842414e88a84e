"""Cut points and the scores that they give. Pure.

Equal values always share a score, whatever the order of rows, because a score depends on the value
alone; the sizes of the groups are therefore unequal, and reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cdp.segments.builtins.figures import Numbers, Whole


def quantile_cuts(values: Numbers, bins: int) -> list[float]:
    """Return the ``bins`` - 1 inner quantiles of ``values``, linear between neighbours.

    Type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996), the default of R
    and numpy. Empty without values.
    """
    if not len(values):
        return []
    shares = np.arange(1, bins) / bins
    cuts: list[float] = np.quantile(values, shares, method="linear").tolist()
    return cuts


def score_by_cuts(values: Numbers, cuts: Sequence[float], *, small_is_best: bool = False) -> Whole:
    """Return 1 + the number of cut points below each value; from the top when small is best."""
    below = np.searchsorted(np.asarray(cuts, dtype=float), values, side="left")
    scores = len(cuts) + 1 - below if small_is_best else 1 + below
    return np.asarray(scores, dtype=np.int64)


def count_scores(scores: Whole, bins: int) -> dict[str, int]:
    """Return how many have each score from 1 to ``bins``."""
    counts = np.bincount(scores, minlength=bins + 1)
    return {str(score): int(counts[score]) for score in range(1, len(counts))}
