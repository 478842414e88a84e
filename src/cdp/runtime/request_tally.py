"""How many requests were answered, how, and how fast, in plain numbers that Prometheus reads.

The client library's own counters take a lock each and walk their buckets, which for a small request
is a tenth of its whole cost. All counting happens on the event loop, so it needs no lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds in seconds, both ends of what a person would call fast and slow."""

_Key = tuple[str, str, int]
"""Route template, method, status."""


class RequestTally(Collector):
    """Counts requests by route, method and status, and their times by route."""

    def __init__(self) -> None:
        self._counts: dict[_Key, int] = {}
        self._times: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def count(self, key: _Key, seconds: float) -> None:
        """Count one request that took ``seconds``."""
        route = key[0]
        try:
            self._counts[key] += 1
        except KeyError:
            self._counts[key] = 1
            if route not in self._times:
                self._times[route] = [0] * (len(BUCKETS) + 1)
                self._seconds[route] = 0.0
        self._times[route][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        """Give both metrics as they stand now."""
        requests = CounterMetricFamily(
            "cdp_http_requests",
            "Requests answered, by route and status.",
            labels=["route", "method", "status"],
        )
        for (route, method, status), number in list(self._counts.items()):
            requests.add_metric([route, method, str(status)], number)
        yield requests
        times = HistogramMetricFamily(
            "cdp_http_request_seconds",
            "Time until the answer was complete, by route.",
            labels=["route"],
        )
        for route, numbers in list(self._times.items()):
            total = 0
            buckets: list[tuple[str, float]] = []
            bounds = [*map(str, map(float, BUCKETS)), "+Inf"]
            for bound, number in zip(bounds, numbers, strict=True):
                total += number
                buckets.append((bound, total))
            times.add_metric([route], buckets, self._seconds[route])
        yield times
