"""The groups of RFM as data: rows of ranges, the first that fits wins, the last catches all. Pure.

The ten groups are those that the R package ``rfm`` documents, for scores from 1 to 5; rows that
another row above them would have swallowed whole (new customers, those not to be lost) stand higher
here, so that every group can be reached, and whoever came lately is in no group of the lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.figures import Whole
from cdp.segments.builtins.settings import SettingsReader, read_range

MOST_GROUPS = 100
PRESET_BINS = 5
Range = tuple[float, float]
_ANY: Range = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Group:
    """A row of the table; each range holds its ends."""

    name: str
    r: Range = _ANY
    f: Range = _ANY
    m: Range = _ANY


PRESETS: dict[str, tuple[Group, ...]] = {
    "four": (
        Group("champion", (4, 5), (4, 5), (3, 5)),
        Group("active", (3, 5)),
        Group("at_risk", (1, 2), (3, 5)),
        Group("lost"),
    ),
    "ten": (
        Group("champion", (4, 5), (4, 5), (4, 5)),
        Group("loyal", (2, 5), (3, 5), (3, 5)),
        Group("new", (4, 5), (1, 1), (1, 1)),
        Group("promising", (3, 4), (1, 1), (1, 1)),
        Group("potential_loyalist", (3, 5)),
        Group("needs_attention", (2, 3), (2, 3), (2, 3)),
        Group("about_to_sleep", (2, 3), (1, 2), (1, 2)),
        Group("cannot_lose", (1, 1), (4, 5), (4, 5)),
        Group("at_risk", (1, 2), (2, 5), (2, 5)),
        Group("lost"),
    ),
}


def read_groups(reader: SettingsReader) -> tuple[tuple[Group, ...], bool]:
    """Return the table at ``groups`` and whether its ranges are of the preset's five scores."""
    given = reader.raw("groups", "ten")
    if isinstance(given, str):
        if given not in PRESETS:
            names = ", ".join(f'"{name}"' for name in PRESETS)
            raise reader.refuse("groups", f"groups is {names} or a list of rows")
        return PRESETS[given], True
    groups = reader.each("groups", _read_group, most=MOST_GROUPS)
    assert groups is not None
    return tuple(groups), False


def _read_group(document: Any, path: str) -> Group:
    reader = SettingsReader(document, path)
    name = reader.text("name")
    if name is None:
        raise reader.refuse("name", "a group has a name", "missing_part")
    ranges = {
        figure: read_range(reader.document[figure], reader.at(figure))
        for figure in ("r", "f", "m")
        if reader.has(figure)
    }
    reader.finish()
    return Group(name, **ranges)


def place_in_groups(groups: Sequence[Group], r: Whole, f: Whole, m: Whole) -> NDArray[np.str_]:
    """Return the name of the first group whose ranges hold the three scores; the last takes all."""
    place = np.full(len(r), len(groups) - 1)
    for index in range(len(groups) - 2, -1, -1):
        group = groups[index]
        inside = np.ones(len(r), dtype=bool)
        for scores, (low, high) in ((r, group.r), (f, group.f), (m, group.m)):
            inside &= (scores >= low) & (scores <= high)
        place[inside] = index
    return np.asarray(np.array([group.name for group in groups])[place])


def to_fifths(scores: Whole, bins: int) -> Whole:
    """Return scores from 1 to ``bins`` on the scale from 1 to 5, halves upwards."""
    if bins in (1, PRESET_BINS):
        return scores
    share = (scores - 1) / (bins - 1)
    return np.asarray(np.floor(share * (PRESET_BINS - 1) + 1.5), dtype=np.int64)


def show_groups(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the table as JSON, without ranges that take everything."""
    return [
        {"name": group.name}
        | {
            figure: [int(end) if end == int(end) else end for end in ends]
            for figure, ends in (("r", group.r), ("f", group.f), ("m", group.m))
            if ends != _ANY
        }
        for group in groups
    ]
