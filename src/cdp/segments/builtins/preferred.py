"""Preferred channel, category, store and hour: where most orders were. Pure: the settings."""

from __future__ import annotations

from dataclasses import dataclass

from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import mistake

FACETS = ("channel", "category", "store", "hour")


@dataclass(frozen=True, slots=True)
class PreferredSettings:
    of: tuple[str, ...]
    min_orders: int
    zero_value_orders: bool


def read_settings(reader: SettingsReader) -> PreferredSettings:
    """Read the settings of ``preferred``."""
    of = reader.each("of", _read_facet, most=len(FACETS)) or list(FACETS)
    reader.show("of", list(FACETS))
    fewest = reader.whole("min_orders", 1, low=1, high=10**6)
    zero = reader.flag("zero_value_orders")
    reader.finish()
    return PreferredSettings(tuple(dict.fromkeys(of)), fewest, zero)


def _read_facet(value: object, path: str) -> str:
    if value not in FACETS:
        raise mistake("bad_value", f"this is one of {', '.join(FACETS)}", path)
    return str(value)
