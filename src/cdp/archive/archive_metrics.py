"""The figures of archive and retention for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cdp.archive.retention_store import read_removals
from cdp.archive.status_store import read_held
from cdp.storage.database import Driver


def read_archive_metrics(connection: Driver) -> Iterator[Metric]:
    """Give what is archived and what retention removed."""
    removed = CounterMetricFamily(
        "cdp_retention_removed_events",
        "Events removed because their time was over.",
        labels=["source", "event"],
    )
    for row in read_removals(connection):
        removed.add_metric((row["source"], row["event"] or ""), row["removed"])
    yield removed
    held = read_held(connection)
    for name, value in (("days", held.days), ("rows", held.rows), ("bytes", held.bytes)):
        yield GaugeMetricFamily(f"cdp_archive_{name}", f"Archived {name}.", value=value)
