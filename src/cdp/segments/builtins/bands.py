"""Bands: a number becomes a word. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.figures import Numbers
from cdp.segments.builtins.settings import SettingsReader


def read_bands(
    reader: SettingsReader, names: tuple[str, str], default: tuple[float, float], *, high: float
) -> tuple[float, float]:
    """Read ``bands``, the two numbers at which the second and the third band begin."""
    inner = reader.inner("bands")
    lower = inner.number(names[0], default[0], low=0, high=high)
    upper = inner.number(names[1], default[1], low=0, high=high)
    assert lower is not None
    assert upper is not None
    if lower > upper:
        raise reader.refuse("bands", f"{names[1]} is not below {names[0]}")
    inner.finish()
    return lower, upper


def place_in_bands(
    values: Numbers, starts: tuple[float, float], names: Sequence[str]
) -> NDArray[np.str_]:
    """Return the band of each value; a band begins at its number."""
    place = np.searchsorted(np.asarray(starts), values, side="right")
    return np.asarray(np.array(names)[place])
