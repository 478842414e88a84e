"""Health score: a weighted mean of what is known. Pure.

Sum of weight times score over the components that are there, divided by their weights: what is
missing leaves the others as they are. How much weight was there is the coverage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.bands import place_in_bands, read_bands
from cdp.segments.builtins.definition import ReadContext
from cdp.segments.builtins.figures import Numbers, count_values
from cdp.segments.builtins.settings import SettingsReader, read_number
from cdp.segments.parse_values import below, mistake, read_value_path
from cdp.segments.rules import Path, Rule

MOST_COMPONENTS = 50
BANDS = ("red", "amber", "green")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the score: a trait's or tag's number, or a rule that holds (100) or not (0)."""

    name: str
    kind: Literal["trait", "tag", "rule"]
    path: Path
    document: Any
    """Of a rule."""
    weight: float
    range: tuple[float, float]
    """What counts as 0 and what as 100; the first may be the larger."""


@dataclass(frozen=True, slots=True)
class HealthSettings:
    components: tuple[Component, ...]
    bands: tuple[float, float]
    min_coverage: float
    rules: tuple[Rule, ...]
    """The trees of what the components look at."""


def read_settings(reader: SettingsReader, context: ReadContext) -> HealthSettings:
    """Read the settings of ``health``."""
    rules: list[Rule] = []

    def read(document: Any, path: str) -> Component:
        return _read_component(document, path, context, rules)

    components = reader.each("components", read, most=MOST_COMPONENTS)
    if components is None:
        message = "a health score has components, each with a weight"
        raise reader.refuse("components", message, "missing_part")
    bands = read_bands(reader, ("amber", "green"), (40, 70), high=100)
    coverage = reader.number("min_coverage", 0.5, low=0, high=1)
    reader.finish()
    assert coverage is not None
    return HealthSettings(tuple(components), bands, coverage, tuple(rules))


def _read_component(document: Any, path: str, context: ReadContext, rules: list[Rule]) -> Component:
    reader = SettingsReader(document, path)
    weight = reader.number("weight", low=1e-9)
    if weight is None:
        raise reader.refuse("weight", "a component has a weight above 0", "missing_part")
    name = reader.text("name")
    span = _read_span(reader)
    rest = {k: v for k, v in reader.document.items() if k not in ("weight", "name", "range")}
    for kind in ("trait", "tag"):
        if set(rest) == {kind}:
            where = read_value_path(rest[kind], below(path, kind), f"a {kind}")
            if kind == "tag":
                rules.append(context.read_rule({**rest, "op": "exists"}, path))
            shown = name or str(rest[kind])
            return Component(
                shown, "trait" if kind == "trait" else "tag", where, None, weight, span
            )
    rule = rest["rule"] if set(rest) == {"rule"} else rest
    rules.append(context.read_rule(rule, below(path, "rule") if rule is not rest else path))
    return Component(name or "rule", "rule", (), rule, weight, span)


def _read_span(reader: SettingsReader) -> tuple[float, float]:
    value = reader.raw("range", [0, 100])
    if not isinstance(value, list) or len(value) != 2:
        raise reader.refuse("range", "a range is [what counts as 0, what counts as 100]")
    worst, best = (
        read_number(each, below(reader.at("range"), index), -np.inf)
        for index, each in enumerate(value)
    )
    if worst == best:
        raise mistake("bad_value", "the two ends of a range differ", reader.at("range"))
    return worst, best


def scale(values: Numbers, span: tuple[float, float]) -> Numbers:
    """Return values on the scale from 0 to 100, clipped."""
    worst, best = span
    return np.asarray(np.clip((values - worst) / (best - worst) * 100, 0, 100))


def score(parts: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """Return score and coverage of each row of ``parts`` (0 to 100 each, NaN where missing)."""
    present = np.where(np.isnan(parts), 0.0, weights)
    there = present.sum(axis=1)
    summed = (np.nan_to_num(parts) * present).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(there > 0, summed / there, np.nan)
    return np.asarray(np.round(scores, 6)), np.asarray(np.round(there / weights.sum(), 6))


def band(
    scores: Numbers, coverage: Numbers, settings: HealthSettings
) -> tuple[Numbers, NDArray[np.str_]]:
    """Return the scores that can be said, and their bands: unknown where too little is known."""
    is_known = coverage >= settings.min_coverage
    named = place_in_bands(np.nan_to_num(scores), settings.bands, BANDS)
    return np.where(is_known, scores, np.nan), np.where(is_known, named, UNKNOWN)


def summarise(
    settings: HealthSettings, scores: Numbers, bands: NDArray[np.str_], parts: Numbers
) -> dict[str, Any]:
    """Return how many are in each band, and how often each component is known."""
    known = scores[~np.isnan(scores)]
    missing = np.isnan(parts).sum(axis=0) if len(parts) else np.zeros(len(settings.components))
    return {
        "people": len(scores),
        "bands": count_values(bands),
        "average": round(float(known.mean()), 6) if len(known) else None,
        "components": [
            {"name": each.name, "weight": each.weight, "missing": int(count)}
            for each, count in zip(settings.components, missing.tolist(), strict=True)
        ],
    }
