"""RFM: how recently, how often, for how much. Pure.

Hughes, "Strategic Database Marketing" (1994), with value cuts instead of ranks: see ``cuts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.cuts import count_scores, quantile_cuts, score_by_cuts
from cdp.segments.builtins.figures import Numbers, Whole, count_values
from cdp.segments.builtins.rfm_groups import (
    Group,
    place_in_groups,
    read_groups,
    show_groups,
    to_fifths,
)
from cdp.segments.builtins.settings import SettingsReader, read_number
from cdp.segments.parse_values import mistake

SMALL_POPULATION = 25
MOST_BINS = 20
FIGURES = {"recency": "r", "frequency": "f", "monetary": "m"}
Cuts = Mapping[str, list[float]]


@dataclass(frozen=True, slots=True)
class RfmSettings:
    bins: int
    cuts: Mapping[str, tuple[float, ...]]
    """By figure; a figure that is missing is cut at its quantiles. Money in minor units."""
    groups: tuple[Group, ...]
    groups_are_preset: bool
    zero_value_orders: bool

    def bins_of(self, figure: str) -> int:
        """Return the highest score of a figure."""
        return len(self.cuts[figure]) + 1 if figure in self.cuts else self.bins


@dataclass(frozen=True, slots=True)
class Scores:
    r: Whole
    f: Whole
    m: Whole
    group: NDArray[np.str_]


def read_settings(reader: SettingsReader) -> RfmSettings:
    """Read the settings of ``rfm``."""
    bins = reader.whole("bins", 5, low=2, high=MOST_BINS)
    cuts = _read_cuts(reader, bins if reader.has("bins") else None)
    groups, are_preset = read_groups(reader)
    zero = reader.flag("zero_value_orders")
    reader.finish()
    return RfmSettings(bins, cuts, groups, are_preset, zero)


def _read_cuts(reader: SettingsReader, bins: int | None) -> dict[str, tuple[float, ...]]:
    if reader.raw("cuts", "quantile") == "quantile":
        return {}
    inner = reader.inner("cuts")
    found: dict[str, tuple[float, ...]] = {}
    for figure, short in FIGURES.items():
        for name in (figure, short):
            if not inner.has(name) or inner.raw(name) == "quantile":
                continue
            points = inner.each(name, lambda v, p: read_number(v, p, -np.inf), most=MOST_BINS)
            assert points is not None
            if any(later < earlier for earlier, later in pairwise(points)):
                raise inner.refuse(name, "cut points rise")
            if bins is not None and len(points) != bins - 1:
                raise mistake(
                    "bad_value", f"{bins} bins have {bins - 1} cut points", inner.at(name)
                )
            found[figure] = tuple(points)
    inner.finish()
    return found


def find_cuts(settings: RfmSettings, figures: Mapping[str, Numbers]) -> dict[str, list[float]]:
    """Return the cut points of each figure: those given, else the population's quantiles."""
    return {
        figure: list(settings.cuts[figure])
        if figure in settings.cuts
        else quantile_cuts(figures[figure], settings.bins)
        for figure in FIGURES
    }


def score_customers(
    settings: RfmSettings, cuts: Cuts, figures: Mapping[str, Numbers], population: int
) -> Scores:
    """Return scores and group of each customer; a small recency is the best.

    Somebody alone has no quantiles: the middle score, unless the cuts are given.
    """
    scores: dict[str, Whole] = {}
    for figure, short in FIGURES.items():
        values = figures[figure]
        if population == 1 and figure not in settings.cuts:
            scores[short] = np.full(len(values), (settings.bins + 1) // 2, dtype=np.int64)
        else:
            scores[short] = score_by_cuts(values, cuts[figure], small_is_best=figure == "recency")
    placed = [
        to_fifths(scores[short], settings.bins_of(figure))
        if settings.groups_are_preset
        else scores[short]
        for figure, short in FIGURES.items()
    ]
    return Scores(**scores, group=place_in_groups(settings.groups, *placed))


def summarise(settings: RfmSettings, cuts: Cuts, scores: Scores) -> dict[str, Any]:
    """Return what the tag shows: achieved sizes, cuts, groups."""
    return {
        "customers": len(scores.r),
        "small_population": len(scores.r) < SMALL_POPULATION,
        "cuts": {figure: [round(cut, 6) for cut in points] for figure, points in cuts.items()},
        "sizes": {
            short: count_scores(getattr(scores, short), settings.bins_of(figure))
            for figure, short in FIGURES.items()
        },
        "groups": count_values(scores.group),
        "group_table": show_groups(settings.groups),
    }
