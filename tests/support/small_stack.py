"""The door and the worker over one database in this process, and what became of what was sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.accounting_store import Minute, read_accounting
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.format import LoggedLine
from cdp.log.postgres_log import PostgresLog
from cdp.model import SourceType
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.worker import Worker
from tests.support.ingest_server import IngestServer, run_ingest, wait_until
from tests.support.postgres import PostgresServer


@dataclass(frozen=True)
class Account:
    """What became of everything that a source delivered."""

    received: int
    stored: int
    duplicate: int
    rejected: int
    in_flight: int
    balanced: bool


@dataclass(frozen=True)
class Sender:
    """A source of one test's own, and its key."""

    source_id: str
    number: int
    key: str


@dataclass
class SmallStack:
    """A running door with a worker behind it."""

    url: str
    database: Database
    log: PostgresLog
    directory: SourceDirectory

    def add_source(
        self, kind: SourceType = "server", settings: Mapping[str, Any] | None = None
    ) -> Sender:
        """Make a source; its key works at once."""
        with self.database.transaction() as connection:
            source, key = create_source(driver(connection), "sdk", kind, settings or {})
        self.directory.refresh()
        return Sender(source.source_id, source.number, key)

    def read_account(self, sender: Sender) -> Account:
        """The sums over all minutes."""
        minutes = read_accounting(self.database, self.log, sender.source_id)
        return _add_up(minutes)

    def wait_for(self, sender: Sender, received: int) -> Account:
        """The account once so much was received and nothing is on its way any more."""

        def is_done() -> bool:
            account = self.read_account(sender)
            return account.received >= received and account.in_flight == 0

        wait_until(is_done, 30)
        return self.read_account(sender)

    def read_lines(self, sender: Sender) -> list[LoggedLine]:
        """What the door put into the log for a source."""
        return IngestServer(self.url, sender.key, sender.source_id, self.log).read_lines()

    def read_events(self, sender: Sender) -> list[dict[str, Any]]:
        """The stored events of a source as rows of the events table, properties and all."""
        with self.database.transaction() as connection:
            rows = connection.exec_driver_sql(
                "SELECT * FROM events WHERE source_number = %s ORDER BY at", (sender.number,)
            )
            return [cast("dict[str, Any]", dict(row._mapping)) for row in rows]


def _add_up(minutes: list[Minute]) -> Account:
    return Account(
        sum(minute.received for minute in minutes),
        sum(minute.stored for minute in minutes),
        sum(minute.duplicate for minute in minutes),
        sum(minute.rejected for minute in minutes),
        sum(minute.in_flight for minute in minutes),
        all(minute.balanced for minute in minutes),
    )


async def nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands behind the door; no SDK may need it."""
    raise AssertionError(f"an SDK asked for something unknown: {scope}")


@contextlib.contextmanager
def run_stack(
    postgres: PostgresServer,
    settings: Settings | None = None,
    fallback: ASGIApp | None = None,
    *,
    workers: int = 1,
) -> Iterator[SmallStack]:
    """A door and workers over a fresh database; ``fallback`` gets what is not the door's."""
    with postgres.fresh_url() as database_url:
        database = Database(database_url, application_name="cdp-test")
        log = PostgresLog(database, 2)
        working_logs: list[PostgresLog] = []
        directory = SourceDirectory(database)
        directory.refresh()
        stop = threading.Event()
        threads = []
        for number in range(workers):
            working_logs.append(PostgresLog(database, 2))
            worker = make_worker(database, working_logs[-1], directory, f"worker {number}")
            threads.append(
                threading.Thread(target=worker.run, args=(stop,), kwargs={"poll_seconds": 0.05})
            )
            threads[-1].start()
        try:
            with run_ingest(directory, log, fallback or nothing_else, settings) as url:
                yield SmallStack(url, database, log, directory)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
            for working_log in working_logs:
                working_log.close()
            log.close()
            database.close()


def make_worker(
    database: Database, log: PostgresLog, directory: SourceDirectory, name: str | None = None
) -> Worker:
    """A worker with the default rules, under a name of its own if there are several."""
    rules = default_rules("CN")
    with database.transaction() as connection:
        salt = ensure_salt(driver(connection))
    identify = partial(identify_claims, rules=rules)
    identity = IdentityStore(rules, salt)
    return Worker(database, log, directory, identity, identify, worker_id=name)
