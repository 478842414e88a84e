"""Settings of ``churn_risk``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cdp.segments.builtins.bands import read_bands
from cdp.segments.builtins.clv_model import Gate, count_days, read_gate
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import read_window
from cdp.segments.rules import Path, Window

METHODS = ("gap", "p_alive", "model", "contractual")
BANDS = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class ChurnSettings:
    method: str
    k: float
    horizon_days: int
    started: Path | None
    ended: Path | None
    period: Window
    bands: tuple[float, float]
    gate: Gate
    zero_value_orders: bool


def read_settings(reader: SettingsReader) -> ChurnSettings:
    """Read the settings of ``churn_risk``."""
    method = reader.choice("method", METHODS, "gap")
    k = reader.number("k", 2.0, low=1, high=10)
    horizon = reader.duration("horizon", "90d")
    assert k is not None
    assert horizon is not None
    days = round(count_days(horizon))
    if not 1 <= days <= 3660:
        raise reader.refuse("horizon", "a horizon is a day to ten years")
    started, ended = reader.path_of("started"), reader.path_of("ended")
    if method == "contractual":
        for name, path in (("started", started), ("ended", ended)):
            if path is None:
                message = f"a contract needs the trait at which it {name}"
                raise reader.refuse(name, message, "missing_part")
    period = read_window(reader.raw("period", {"last": "30d"}), reader.at("period"))
    bands = read_bands(reader, ("medium", "high"), (0.33, 0.66), high=1)
    gate, zero = read_gate(reader), reader.flag("zero_value_orders")
    reader.finish()
    return ChurnSettings(method, k, days, started, ended, period, bands, gate, zero)
