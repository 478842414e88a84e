"""What Prometheus is told of destinations."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from cdp.storage.database import Driver

_READ = """
SELECT d.destination_id, d.type, d.status = 'paused',
       count(v.delivery_id) FILTER (WHERE v.status <> 'delivered'),
       coalesce(extract(epoch FROM now() - min(v.created_at)
                        FILTER (WHERE v.status <> 'delivered')), 0)::float
  FROM destinations d LEFT JOIN deliveries v USING (destination_id)
 GROUP BY d.destination_id, d.type, d.status ORDER BY d.destination_id
"""


def read_destination_metrics(connection: Driver) -> Iterator[Metric]:
    """Give how each destination stands."""
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
    for destination_id, type, is_paused, count, seconds in connection.execute(_READ):
        named = [destination_id, type]
        paused.add_metric(named, float(is_paused))
        waiting.add_metric(named, count)
        age.add_metric(named, seconds)
    yield from (paused, waiting, age)
