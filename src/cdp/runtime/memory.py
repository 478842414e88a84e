"""How often Python looks for reference cycles."""

from __future__ import annotations

import gc

_YOUNG_OBJECTS = 100_000


def collect_rarely() -> None:
    """Look for cycles every 100,000 new objects instead of every 700.

    For a process that makes tens of thousands of short-lived objects per batch, none in a cycle,
    beside large dictionaries that it keeps: by default a quarter of its time goes into walking
    these again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
