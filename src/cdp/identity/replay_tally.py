"""What replays of components came to, counted in this process for metrics."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping

LINKS, SIZES, SECONDS = "links", "component_size", "recompute_seconds"
SIZE_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""Upper bounds of component sizes, in nodes."""
SECOND_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds of the time of one batch's replays, in seconds."""
ACCEPTED = "accepted"
BEYOND = "+Inf"
SUM = "sum"

Counts = dict[tuple[str, str], float]
"""By name and label: of links the reason why they were refused, of the others an upper bound."""


def name_bound(bound: float) -> str:
    """Return an upper bound as Prometheus writes it."""
    return str(float(bound))


class ReplayTally:
    """Counts; thread-safe. What was counted is taken now and then and added up elsewhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = {}

    def count(
        self, *, accepted: int, refused: Mapping[str, int], sizes: Mapping[int, int], seconds: float
    ) -> None:
        """Count the replays of one batch: its new links, the refusals that appeared by reason,

        how many components were of which size in nodes, and how long all of it took.
        """
        with self._lock:
            if accepted:
                self._add(LINKS, ACCEPTED, accepted)
            for reason, number in refused.items():
                self._add(LINKS, reason, number)
            for size, number in sizes.items():
                self._observe(SIZES, SIZE_BOUNDS, size, number)
            self._observe(SECONDS, SECOND_BOUNDS, seconds)

    def take(self) -> Counts:
        """Return what was counted since the last time."""
        with self._lock:
            taken, self._counts = self._counts, {}
            return taken

    def give_back(self, counts: Counts) -> None:
        """Count again what was taken and could not be added up."""
        with self._lock:
            for (name, label), number in counts.items():
                self._add(name, label, number)

    def _add(self, name: str, label: str, number: float) -> None:
        self._counts[name, label] = self._counts.get((name, label), 0.0) + number

    def _observe(self, name: str, bounds: tuple[float, ...], value: float, times: int = 1) -> None:
        position = bisect_left(bounds, value)
        self._add(name, name_bound(bounds[position]) if position < len(bounds) else BEYOND, times)
        self._add(name, SUM, value * times)


tally = ReplayTally()
"""Of this process: a worker, or the api that carries out decisions by hand."""
