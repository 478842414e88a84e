"""Compute a built-in tag: of everybody, or, with what was fitted on everybody, of a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cdp.segments.builtins import (
    churn_engine,
    clv_engine,
    cross_sell_engine,
    engagement_engine,
    health_engine,
    lifecycle_engine,
    nps_engine,
    preferred_engine,
    rfm_engine,
    sentiment_engine,
)
from cdp.segments.builtins.clv_simple import SimpleSettings
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed
from cdp.segments.builtins.source_engine import Source

Compute = Callable[[Source, BuiltIn, Mapping[str, Any] | None], Computed]


def _compute_clv(source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None) -> Computed:
    if isinstance(built_in.settings, SimpleSettings):
        return rfm_engine.compute_simple_clv(source, built_in, fitted)
    return clv_engine.compute_modelled_clv(source, built_in, fitted)


_COMPUTES: dict[str, Compute] = {
    "rfm": rfm_engine.compute_rfm,
    "value_tier": rfm_engine.compute_value_tier,
    "clv": _compute_clv,
    "churn_risk": churn_engine.compute_churn_risk,
    "health": health_engine.compute_health,
    "nps": nps_engine.compute_nps,
    "lifecycle": lifecycle_engine.compute_lifecycle,
    "engagement": engagement_engine.compute_engagement,
    "preferred": preferred_engine.compute_preferred,
    "sentiment": sentiment_engine.compute_sentiment,
    "cross_sell": cross_sell_engine.compute_cross_sell,
}


def compute(source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None) -> Computed:
    """Return what a built-in comes to; ``fitted`` is the population's part when only the profiles

    in scope are looked at, ``None`` when everybody is.
    """
    return _COMPUTES[built_in.name](source, built_in, fitted)
