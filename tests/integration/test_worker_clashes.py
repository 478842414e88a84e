"""What breaks a rule of the schema is tried again alone, and told loudly, whatever comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.sources_store import SourceDirectory, create_source
from cdp.log.postgres_log import PostgresLog
from cdp.pipeline import STEPS, Step, Work
from cdp.runtime.metrics import Metrics
from cdp.runtime.progress_store import read_counts
from cdp.storage.database import Database, Driver, driver
from cdp.worker import Worker
from tests.support.wire import append_events, track


@pytest.fixture
def log(database: Database) -> Iterator[PostgresLog]:
    log = PostgresLog(database, 1)
    yield log
    log.close()


def _break_a_rule(tx: Driver) -> None:
    """Enter a source twice that there is once."""
    tx.execute("INSERT INTO sources SELECT * FROM sources LIMIT 1")


def _work_off(database: Database, log: PostgresLog, step: Step) -> list[Any]:
    """Work off five events with ``step`` among the others; return what was logged."""
    rules = default_rules("CN")
    with database.transaction() as connection:
        source, _ = create_source(driver(connection), "shop", "server", {})
        salt = ensure_salt(driver(connection))
    names = ["a", "b", "odd", "c", "d"]
    append_events(log, source.source_id, [track(name, name, userId=f"u{name}") for name in names])
    worker = Worker(
        database,
        log,
        SourceDirectory(database),
        IdentityStore(rules, salt),
        partial(identify_claims, rules=rules),
        steps=(*STEPS, step),
        worker_id="one",
    )
    with capture_logs() as told:
        while worker.step(0):
            pass
    worker.close()
    return told


def _ask(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def _show_metrics(database: Database, log: PostgresLog) -> str:
    metrics = Metrics()
    metrics.watch(database, log, None)
    return metrics.render().decode()


def test_what_passes_in_a_transaction_of_its_own_is_not_set_aside_but_counted(
    database: Database, log: PostgresLog
) -> None:
    tries: list[int] = []

    def break_once(tx: Driver, work: Work) -> None:
        tries.append(len(work.fresh))
        if len(tries) == 1:
            _break_a_rule(tx)

    told = _work_off(database, log, break_once)
    assert tries == [5, 5]
    assert _ask(database, "SELECT count(*) FROM events") == [(5,)]
    assert _ask(database, "SELECT count(*) FROM rejected") == [(0,)]
    (line,) = [one for one in told if one["event"] == "batch_clashed"]
    assert (line["log_level"], line["rule"]) == ("error", "pk_sources")
    shown = _show_metrics(database, log)
    assert 'cdp_worker_clashes_total{outcome="passed",rule="pk_sources"} 1.0' in shown


def test_what_breaks_a_rule_each_time_is_set_aside_and_counted_and_its_neighbours_land(
    database: Database, log: PostgresLog
) -> None:
    def break_always(tx: Driver, work: Work) -> None:
        if any(one.message_id == "odd" for one in work.fresh):
            _break_a_rule(tx)

    told = _work_off(database, log, break_always)
    assert _ask(database, "SELECT count(*) FROM events") == [(4,)]
    assert _ask(database, "SELECT code, message_id, message FROM rejected") == [
        ("unprocessable", "odd", "UniqueViolation 23505")
    ]
    assert "record_set_aside" in [one["event"] for one in told]
    with database.transaction() as connection:
        counts = read_counts(driver(connection), log.name)
    assert counts.clashes == [("pk_sources", "set_aside", 1)]
    assert counts.dead_letters == 1


def test_what_is_remembered_of_people_is_forgotten_before_a_batch_is_tried_again(
    database: Database, log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[IdentityStore] = []
    monkeypatch.setattr(IdentityStore, "forget", lambda store: forgotten.append(store))
    tries: list[Work] = []

    def break_once(tx: Driver, work: Work) -> None:
        tries.append(work)
        if len(tries) == 1:
            _break_a_rule(tx)

    _work_off(database, log, break_once)
    assert len(tries) == 2
    assert forgotten == [tries[1].identity]
