"""Engagement: how lately, how regularly and how variously somebody was active. Pure.

Three parts from 0 to 1, in the window: days left since the last activity, days with activity
against a target, different events against a target; their weighted mean times 100.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdp.segments.builtins.bands import read_bands
from cdp.segments.builtins.clv_model import count_days
from cdp.segments.builtins.figures import Numbers
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import mistake

BANDS = ("low", "medium", "high")
MOST_EVENTS = 200


@dataclass(frozen=True, slots=True)
class EngagementSettings:
    events: tuple[str, ...]
    """Empty: all."""
    window_days: int
    weights: tuple[float, float, float]
    """Of recency, frequency and variety."""
    active_days: float
    kinds: float
    bands: tuple[float, float]


def read_settings(reader: SettingsReader) -> EngagementSettings:
    """Read the settings of ``engagement``."""
    events = reader.each("events", _read_name, most=MOST_EVENTS) or []
    window = reader.duration("window", "30d")
    assert window is not None
    days = round(count_days(window))
    if not 1 <= days <= 3660:
        raise reader.refuse("window", "a window is a day to ten years")
    inner = reader.inner("weights")
    weights = [
        inner.number(name, default, low=0)
        for name, default in (("recency", 0.4), ("frequency", 0.4), ("variety", 0.2))
    ]
    inner.finish()
    if not sum(weight or 0 for weight in weights) > 0:
        raise reader.refuse("weights", "one weight at least is above 0")
    target = reader.inner("target")
    active, kinds = target.number("active_days", 8, low=1), target.number("kinds", 5, low=1)
    target.finish()
    bands = read_bands(reader, ("medium", "high"), (33, 66), high=100)
    reader.finish()
    assert active is not None
    assert kinds is not None
    first, second, third = (float(weight or 0) for weight in weights)
    return EngagementSettings(tuple(events), days, (first, second, third), active, kinds, bands)


def _read_name(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise mistake("bad_value", "an event's name is a text", path)
    return value


def score(
    settings: EngagementSettings, days_since: Numbers, active_days: Numbers, kinds: Numbers
) -> Numbers:
    """Return scores from 0 to 100; ``days_since`` is NaN without activity in the window."""
    recency = np.nan_to_num(np.clip(1 - days_since / settings.window_days, 0, 1))
    frequency = np.minimum(1, active_days / settings.active_days)
    variety = np.minimum(1, kinds / settings.kinds)
    weights = np.asarray(settings.weights)
    parts = np.column_stack([recency, frequency, variety])
    return np.asarray(np.round(100 * (parts @ weights) / weights.sum(), 2))
