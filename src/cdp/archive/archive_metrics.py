"""The figures of archive and retention for Prometheus, read from Postgres at a scrape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdp.archive.retention_store import read_removals
from cdp.archive.status_store import read_held
from cdp.storage.database import Database, driver


class ArchiveCollector(Collector):
    """Gives what is archived and what retention removed; nothing while Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry must not ask Postgres for names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read and give everything."""
        with suppress(Exception):
            with self._database.snapshot() as connection:
                held = read_held(driver(connection))
                removals = read_removals(driver(connection))
            removed = CounterMetricFamily(
                "cdp_retention_removed_events",
                "Events removed because their time was over.",
                labels=["source", "event"],
            )
            for row in removals:
                removed.add_metric((row["source"], row["event"] or ""), row["removed"])
            yield removed
            for name, value in (("days", held.days), ("rows", held.rows), ("bytes", held.bytes)):
                yield GaugeMetricFamily(f"cdp_archive_{name}", f"Archived {name}.", value=value)
