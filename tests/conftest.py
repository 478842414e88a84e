"""What every test may ask for: a fresh database, a real Postgres, a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdp.storage.database import Database
from tests.support.postgres import PostgresServer, run_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The Postgres of this run."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, migrated database with partitions for yesterday, today and tomorrow."""
    with postgres_server.fresh_url() as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A pool on a fresh, migrated database."""
    opened = Database(database_url, application_name="cdp-test")
    try:
        yield opened
    finally:
        opened.close()
