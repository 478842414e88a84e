"""The figures of profiles for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from cdp.profiles.refused_traits_store import count_refused
from cdp.storage.database import Driver


def read_profile_metrics(connection: Driver) -> Iterator[Metric]:
    """Give what is known of all people."""
    yield GaugeMetricFamily(
        "cdp_profiles_refused_traits",
        "Values of traits that were not kept: their identifier has too many.",
        value=count_refused(connection),
    )
