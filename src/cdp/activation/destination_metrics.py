"""What Prometheus is told of destinations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdp.storage.database import Database, driver

_READ = """
SELECT d.destination_id, d.type, d.status = 'paused',
       count(v.delivery_id) FILTER (WHERE v.status <> 'delivered'),
       coalesce(extract(epoch FROM now() - min(v.created_at)
                        FILTER (WHERE v.status <> 'delivered')), 0)::float
  FROM destinations d LEFT JOIN deliveries v USING (destination_id)
 GROUP BY d.destination_id, d.type, d.status ORDER BY d.destination_id
"""


class DestinationCollector(Collector):
    """Gives how each destination stands; nothing while Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry must not ask Postgres for names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read and give everything."""
        labels = ["destination", "type"]
        paused = GaugeMetricFamily(
            "cdp_destination_paused", "1 when nothing is sent any more.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "cdp_destination_waiting", "Deliveries that have not arrived.", labels=labels
        )
        age = GaugeMetricFamily(
            "cdp_destination_oldest_seconds", "Age of the oldest of these.", labels=labels
        )
        with suppress(Exception):
            with self._database.snapshot() as connection:
                rows = driver(connection).execute(_READ).fetchall()
            for destination_id, type, is_paused, count, seconds in rows:
                named = [destination_id, type]
                paused.add_metric(named, float(is_paused))
                waiting.add_metric(named, count)
                age.add_metric(named, seconds)
            yield from (paused, waiting, age)
