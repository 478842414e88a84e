"""The figures of profiles for Prometheus, read from Postgres when somebody scrapes the api."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdp.profiles.refused_traits_store import count_refused
from cdp.storage.database import Database, driver


class ProfileCollector(Collector):
    """Gives what is known of all people; nothing while Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry must not ask Postgres for names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read and give everything."""
        with suppress(Exception):
            with self._database.snapshot() as connection:
                refused = count_refused(driver(connection))
            yield GaugeMetricFamily(
                "cdp_profiles_refused_traits",
                "Values of traits that were not kept: their identifier has too many.",
                value=refused,
            )
