"""What tests share: a small stack with proxies in front of it for SDKs; DuckDB and its feed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.storage.database import Database
from tests.support.fault_proxy import ProxyLoop
from tests.support.postgres import PostgresServer
from tests.support.small_stack import SmallStack, run_stack


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer) -> Iterator[SmallStack]:
    """A door, a worker and their database, for one module."""
    with run_stack(postgres_server) as stack:
        yield stack


@pytest.fixture(scope="module")
def proxies() -> Iterator[ProxyLoop]:
    """Opens proxies that write down what passes, and do harm when told to."""
    with ProxyLoop() as proxies:
        yield proxies


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """DuckDB's file, new, with little memory."""
    opened = Engine(tmp_path / "analytics.duckdb", "256MB", 2)
    yield opened
    opened.close()


@pytest.fixture
def feed(database: Database, engine: Engine) -> Iterator[Feed]:
    """What brings into it what ``database`` has."""
    opened = Feed(database, engine)
    yield opened
    opened.close()
