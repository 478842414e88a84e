"""The figures of identity for Prometheus, read from Postgres when somebody scrapes the api."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from cdp.identity.replay_tally import (
    ACCEPTED,
    BEYOND,
    LINKS,
    SECOND_BOUNDS,
    SECONDS,
    SIZE_BOUNDS,
    SIZES,
    SUM,
    Counts,
    name_bound,
    tally,
)
from cdp.identity.tally_store import flush, read_counts, read_gauges
from cdp.storage.database import Database, Driver
from cdp.storage.database_collector import DatabaseCollector

_GAUGES = {
    "hot_identifiers": "Identifiers whose links are withdrawn: they tie too many people together.",
    "rules_version": "The version of the rules in force.",
    "rules_applying": "Whether people of before are still being worked out under these rules.",
    "rules_components_done": "Components that were worked out anew under these rules.",
    "rules_components_total": "Components that there were when that began; 0 before.",
}


class IdentityCollector(DatabaseCollector):
    """Gives what all workers counted, and how things stand; nothing while Postgres is away."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _read)

    def collect(self) -> Iterator[Metric]:
        """Read and give everything, this process's own counts too."""
        with suppress(Exception):
            flush(self._database, tally)
        yield from super().collect()


def _read(connection: Driver) -> Iterator[Metric]:
    yield from _show(read_counts(connection), read_gauges(connection))


def _show(counts: Counts, gauges: dict[str, float]) -> Iterator[Metric]:
    links = CounterMetricFamily(
        "cdp_identity_links",
        "New links: accepted, or refused and why.",
        labels=["outcome", "reason"],
    )
    for (name, label), value in sorted(counts.items()):
        if name == LINKS:
            is_accepted = label == ACCEPTED
            outcome = ("accepted", "") if is_accepted else ("refused", label)
            links.add_metric(outcome, value)
    yield links
    text = "Nodes of a component when it was replayed."
    yield _histogram("cdp_identity_component_size", text, SIZES, SIZE_BOUNDS, counts)
    text = "Time to lock, load, replay and write the components of one batch."
    yield _histogram("cdp_identity_recompute_seconds", text, SECONDS, SECOND_BOUNDS, counts)
    for name, value in gauges.items():
        yield GaugeMetricFamily(f"cdp_identity_{name}", _GAUGES[name], value=value)


def _histogram(
    family: str, text: str, name: str, bounds: tuple[float, ...], counts: Counts
) -> HistogramMetricFamily:
    total = 0.0
    buckets = []
    for bound in [*map(name_bound, bounds), BEYOND]:
        total += counts.get((name, bound), 0)
        buckets.append((bound, total))
    return HistogramMetricFamily(
        family, text, buckets=buckets, sum_value=counts.get((name, SUM), 0)
    )
