"""Compute a built-in tag: of everybody, or, with what was fitted on everybody, of a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cdp.segments.builtins import clv_engine, nps_engine, rfm_engine
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
    "nps": nps_engine.compute_nps,
}


def compute(source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None) -> Computed:
    """Return what a built-in comes to; ``fitted`` is the population's part when only the profiles

    in scope are looked at, ``None`` when everybody is.
    """
    return _COMPUTES[built_in.name](source, built_in, fitted)
