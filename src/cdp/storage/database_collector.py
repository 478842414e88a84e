"""Figures for Prometheus that are read from Postgres when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cdp.storage.database import Database, Driver, driver

ReadMetrics = Callable[[Driver], Iterable[Metric]]
"""Gives a stage's figures out of one snapshot."""


class DatabaseCollector(Collector):
    """Gives all of a stage's figures, and none while Postgres is away."""

    def __init__(self, database: Database, read: ReadMetrics) -> None:
        self._database = database
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry must not ask Postgres for names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read and give everything."""
        with suppress(Exception):
            with self._database.snapshot() as connection:
                found = list(self._read(driver(connection)))
            yield from found
