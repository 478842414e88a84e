"""What every test may ask for: a fresh database, a real Postgres, a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cdp.storage.database import Database
from tests.support.kafka_broker import GIVEN_SERVERS, KafkaBroker, KafkaMissing
from tests.support.parts import MISSING, miss
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


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """Bootstrap servers of the run's Kafka. Tests share it: use topics of one's own."""
    if GIVEN_SERVERS:
        yield GIVEN_SERVERS
        return
    broker = _start_broker()
    try:
        yield broker.servers
    finally:
        broker.close()


@pytest.fixture(scope="module")
def restartable() -> Iterator[KafkaBroker]:
    """A broker of the module's own, for tests that ``kill()`` and ``start()`` it."""
    broker = _start_broker()
    try:
        yield broker
    finally:
        broker.close()


def _start_broker() -> KafkaBroker:
    try:
        broker = KafkaBroker()
    except KafkaMissing as missing:
        miss("Kafka", str(missing))
    broker.start()
    return broker


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name compressed bytes by their length: gzip writes the time into them, and processes that

    run tests side by side must agree on names.
    """
    if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") and len(val) > 2:
        return f"gzip-{len(val)}"
    return None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary what is missing where tests run in others."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["missing"] = MISSING


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    MISSING.update(getattr(node, "workeroutput", {}).get("missing", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for part, remedy in MISSING.items():
        terminalreporter.write_line(f"NOT TESTED: {part} is missing: {remedy}", yellow=True)
