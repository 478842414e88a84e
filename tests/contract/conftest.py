"""One suite over both logs: every test that takes ``place`` runs once on each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cdp.log.open import open_log
from cdp.log.port import Log
from cdp.settings import Settings
from cdp.storage.database import Database

PARTITIONS = 4

KINDS = ["postgres", pytest.param("kafka", marks=pytest.mark.kafka)]


@dataclass
class Place:
    """Where a log lies: whoever opens it there appends to and reads the same records."""

    settings: Settings
    database: Database
    _opened: list[Log] = field(default_factory=list)

    def open(self) -> Log:
        """Open a handle of one's own, as another process would; closed after the test."""
        log = open_log(self.settings, self.database)
        self._opened.append(log)
        return log

    def environment(self) -> dict[str, str]:
        """The environment of a process that opens the same log."""
        given = self.settings.model_dump(exclude_unset=True)
        mine = {key: value for key, value in os.environ.items() if not key.startswith("CDP_")}
        return mine | {f"CDP_{name.upper()}": str(value) for name, value in given.items()}

    def close(self) -> None:
        for log in self._opened:
            log.close()


def make_place(database: Database, kafka_servers: str | None) -> Place:
    """A new log of four partitions in ``database``, or in a new topic on Kafka."""
    if kafka_servers is None:
        settings = Settings(database_url=database.url, log_partitions=PARTITIONS)
    else:
        settings = Settings(
            database_url=database.url,
            log_partitions=PARTITIONS,
            kafka_bootstrap_servers=kafka_servers,
            kafka_topic=f"test.{uuid.uuid4().hex[:12]}",
        )
    return Place(settings, database)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, database: Database) -> Iterator[Place]:
    servers = request.getfixturevalue("kafka_servers") if request.param == "kafka" else None
    made = make_place(database, servers)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def log(place: Place) -> Log:
    return place.open()
