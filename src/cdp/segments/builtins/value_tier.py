"""Value tiers: by what share of customers, or by amounts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.cuts import score_by_cuts
from cdp.segments.builtins.figures import Numbers, count_values
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import mistake, read_window
from cdp.segments.rules import Window

MOST_TIERS = 50


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier: from an amount on (minor units), or a share of the customers."""

    name: str
    minimum: float | None
    share: float | None


@dataclass(frozen=True, slots=True)
class TierSettings:
    tiers: tuple[Tier, ...]
    """The highest first; the last takes whoever is left."""
    within: Window | None
    zero_value_orders: bool


DEFAULT_TIERS = (
    Tier("platinum", None, 0.05),
    Tier("gold", None, 0.15),
    Tier("silver", None, 0.30),
    Tier("bronze", None, None),
)


def read_settings(reader: SettingsReader) -> TierSettings:
    """Read the settings of ``value_tier``."""
    tiers = reader.each("tiers", _read_tier, most=MOST_TIERS)
    reader.show("tiers", [_show_tier(tier) for tier in DEFAULT_TIERS])
    if tiers is not None:
        _check_tiers(tiers, reader)
    within = (
        read_window(reader.raw("within"), reader.at("within")) if reader.has("within") else None
    )
    zero = reader.flag("zero_value_orders")
    reader.finish()
    return TierSettings(DEFAULT_TIERS if tiers is None else tuple(tiers), within, zero)


def _show_tier(tier: Tier) -> dict[str, Any]:
    return {"name": tier.name} | ({} if tier.share is None else {"share": tier.share})


def _read_tier(document: Any, path: str) -> Tier:
    reader = SettingsReader(document, path)
    name = reader.text("name")
    if name is None:
        raise reader.refuse("name", "a tier has a name", "missing_part")
    minimum = reader.number("min", low=-np.inf)
    share = reader.number("share", low=0, high=1)
    if minimum is not None and share is not None:
        raise mistake("two_forms", "a tier has min or share, not both", path)
    reader.finish()
    return Tier(name, minimum, share)


def _check_tiers(tiers: list[Tier], reader: SettingsReader) -> None:
    upper = tiers[:-1]
    if any(tier.minimum is None for tier in upper) and any(tier.share is None for tier in upper):
        raise reader.refuse("tiers", "all tiers but the last have min, or all have share")
    minima = [tier.minimum for tier in tiers if tier.minimum is not None]
    if any(lower > higher for higher, lower in pairwise(minima)):
        raise reader.refuse("tiers", "the highest tier comes first")
    if sum(tier.share or 0 for tier in upper) > 1 + 1e-9:
        raise reader.refuse("tiers", "shares add up to 1 at most")
    if len({tier.name for tier in tiers}) < len(tiers):
        raise reader.refuse("tiers", "tiers have different names")


def find_thresholds(settings: TierSettings, revenue: Numbers) -> list[float]:
    """Return, from the highest tier to the last but one, the amount at which it begins.

    A share begins above the quantile (type 7) of the customers below it: whoever spent the same is
    in the same tier, so a tier may be smaller than its share.
    """
    upper = settings.tiers[:-1]
    if all(tier.minimum is not None for tier in upper):
        return [float(tier.minimum or 0) for tier in upper]
    shares = np.clip(1 - np.cumsum([tier.share for tier in upper]), 0, 1)
    if not len(revenue):
        return [0.0 for _ in upper]
    found: list[float] = np.quantile(revenue, shares, method="linear").tolist()
    return found


def are_amounts(settings: TierSettings) -> bool:
    """Whether tiers begin at fixed amounts (which are part of the tier), not at quantiles."""
    return all(tier.minimum is not None for tier in settings.tiers[:-1])


def place_in_tiers(
    settings: TierSettings, thresholds: list[float], revenue: Numbers
) -> NDArray[np.str_]:
    """Return each customer's tier."""
    rising = thresholds[::-1]
    if are_amounts(settings):
        reached = np.searchsorted(np.asarray(rising, dtype=float), revenue, side="right")
    else:
        reached = score_by_cuts(revenue, rising) - 1
    names = np.array([tier.name for tier in settings.tiers])
    return np.asarray(names[len(thresholds) - reached])


def summarise(
    settings: TierSettings, thresholds: list[float], tiers: NDArray[np.str_], revenue: Numbers
) -> dict[str, Any]:
    """Return the thresholds, and each tier's size and revenue (minor units)."""
    counts = count_values(tiers)
    total = float(revenue.sum()) if len(revenue) else 0.0
    shown = []
    for index, tier in enumerate(settings.tiers):
        own = float(revenue[tiers == tier.name].sum()) if len(revenue) else 0.0
        shown.append(
            {
                "name": tier.name,
                "from": round(thresholds[index], 6) if index < len(thresholds) else None,
                "customers": counts.get(tier.name, 0),
                "revenue": round(own),
                "revenue_share": own / total if total > 0 else None,
            }
        )
    return {"customers": len(tiers), "tiers": shown}
