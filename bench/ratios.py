"""Turn timed rounds into the rows of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any


def compare(
    goal: int | str,
    name: str,
    ratios: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Return a row: the median of ``ratios`` and the half width of their middle half around it."""
    median = statistics.median(ratios)
    spread = _half_width(ratios) / median if median else 0.0
    target = f"≥ {at_least:.2f}" if at_least is not None else f"≤ {at_most:.2f}"
    met = median >= at_least if at_least is not None else median <= (at_most or 0)
    return {
        "goal": goal,
        "name": name,
        "ratio": median,
        "spread": spread,
        "target": target,
        "met": met,
        "rounds": list(ratios),
        **extra,
    }


def _half_width(values: Sequence[float]) -> float:
    if len(values) < 4:
        return (max(values) - min(values)) / 2
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def take_turns(
    rounds: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> list[tuple[float, float]]:
    """Call both ``rounds`` times, changing who goes first; return what each round gave."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            other = theirs()
            pairs.append((ours(), other))
        else:
            mine = ours()
            pairs.append((mine, theirs()))
    return pairs
