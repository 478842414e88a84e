"""The worker on a real Postgres: exactly once in effect, whatever fails in between."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.sources_store import SourceDirectory, create_source
from cdp.log.port import NewRecord
from cdp.log.postgres_log import PostgresLog
from cdp.pipeline import STEPS, Step, Work
from cdp.storage.database import Database, Driver, driver
from cdp.storage.positions import StalePosition
from cdp.worker import Worker
from tests.support.wire import append_events, identify, track

PARTITIONS = 4


@pytest.fixture
def log(database: Database) -> Iterator[PostgresLog]:
    log = PostgresLog(database, PARTITIONS)
    yield log
    log.close()


@pytest.fixture
def source_id(database: Database) -> str:
    with database.transaction() as connection:
        source, _ = create_source(driver(connection), "shop", "server", {})
    return source.source_id


def make_worker(
    database: Database, log: PostgresLog, *, steps: tuple[Step, ...] = STEPS, name: str = "one"
) -> Worker:
    rules = default_rules("CN")
    with database.transaction() as connection:
        salt = ensure_salt(driver(connection))
    return Worker(
        database,
        log,
        SourceDirectory(database),
        IdentityStore(rules, salt),
        partial(identify_claims, rules=rules),
        steps=steps,
        worker_id=name,
    )


def drain(worker: Worker) -> None:
    """Work until the log is empty."""
    while worker.step(0):
        pass
    worker.close()


def ask(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def forget_workers(database: Database) -> None:
    """What time does: the leases of dead workers run out."""
    with database.transaction() as connection:
        connection.exec_driver_sql("TRUNCATE log_leases, log_workers")


def some_history() -> list[dict[str, Any]]:
    """Forty people who browse, sign in and buy; two of them on one device, one message twice."""
    events: list[dict[str, Any]] = []
    for number in range(40):
        device = f"device-{number}"
        events.append(track("Product Viewed", f"view-{number}", anonymousId=device))
        events.append(
            identify(
                f"identify-{number}",
                anonymousId=device,
                userId=f"u{number}",
                traits={"email": f"u{number}@example.com", "name": f"安妮{number}"},
                context={"consent": {"categoryPreferences": {"marketing": number % 2 == 0}}},
            )
        )
        events.append(track("Order Completed", f"order-{number}", userId=f"u{number}"))
    events.append(identify("identify-shared", anonymousId="device-0", userId="u1"))
    events.append(events[0])
    return events


def read_state(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that must be equal whichever way the history was worked off."""
    return {
        "events": ask(database, "SELECT message_id, name FROM events ORDER BY 1"),
        "homes": ask(
            database,
            "SELECT e.message_id, n.type, n.value FROM events e JOIN nodes n USING (node_id)"
            " ORDER BY 1",
        ),
        "profiles": ask(
            database,
            "SELECT n.type, n.value, n.variant, p.profile_id, n.events, n.first_seen, n.last_seen"
            " FROM nodes n JOIN node_profiles m USING (node_id) JOIN profiles p USING (profile_no)"
            " ORDER BY 1, 2, 3, 4",
        ),
        "traits": ask(
            database,
            "SELECT n.value, t.name, t.value::text, t.message_id FROM traits t"
            " JOIN nodes n USING (node_id) ORDER BY 1, 2",
        ),
        "consents": ask(
            database,
            "SELECT n.value, c.purpose, c.granted FROM consents c JOIN nodes n USING (node_id)"
            " ORDER BY 1, 2",
        ),
        "accounting": ask(
            database, "SELECT source_id, sum(stored), sum(duplicate) FROM accounting GROUP BY 1"
        ),
        "positions": ask(
            database,
            "SELECT h.partition, p.next_offset FROM log_heads h"
            " LEFT JOIN positions p ON p.partition = h.partition WHERE h.next_offset > 0"
            " ORDER BY 1",
        ),
    }


def test_a_visitor_who_signs_in_is_one_person(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    append_events(log, source_id, some_history()[:3])
    drain(make_worker(database, log))
    profiles = ask(database, "SELECT DISTINCT profile_no FROM node_profiles")
    assert len(profiles) == 1
    assert ask(database, "SELECT count(*) FROM events") == [(3,)]


def test_a_message_that_comes_again_has_its_effect_once(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    history = some_history()
    append_events(log, source_id, history)
    drain(make_worker(database, log))
    before = read_state(database)
    append_events(log, source_id, history, request_id="req_again")
    drain(make_worker(database, log))
    after = read_state(database)
    for part in ("events", "homes", "profiles", "traits", "consents"):
        assert after[part] == before[part], part
    stored, duplicate = ask(database, "SELECT sum(stored), sum(duplicate) FROM accounting")[0]
    assert (stored, duplicate) == (len(history) - 1, len(history) + 1)


def test_a_worker_that_was_overtaken_cannot_write(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    append_events(log, source_id, some_history()[:3])
    slow = make_worker(database, log)
    records = log.read(dict.fromkeys(range(PARTITIONS), 0), max_bytes=1 << 20, wait_seconds=0)
    slow._positions = dict.fromkeys(range(PARTITIONS), 0)
    drain(make_worker(database, log, name="fast"))
    with pytest.raises(StalePosition):
        slow._work_off(records)
    assert ask(database, "SELECT count(*) FROM events") == [(3,)]


def refuse_poison(_: Driver, work: Work) -> None:
    """Stands for a statement that one event's data makes fail."""
    if any(event.name == "Poison" for event in work.fresh):
        raise psycopg.DataError("this cannot be stored")


def test_one_event_that_cannot_be_processed_is_set_aside_and_its_neighbours_land(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    history = some_history()
    history.insert(60, track("Poison", "poison", userId="u7"))
    append_events(log, source_id, history)
    drain(make_worker(database, log, steps=(*STEPS[:2], refuse_poison, *STEPS[2:])))
    assert ask(database, "SELECT count(*) FROM events") == [(len(history) - 2,)]
    ((code, reason, message_id, raw),) = ask(
        database, "SELECT code, message, message_id, convert_from(raw, 'utf8') FROM rejected"
    )
    assert (code, message_id) == ("unprocessable", "poison")
    assert '"messageId": "poison"' in raw
    assert "DataError" in reason


@pytest.mark.parametrize(
    "failure",
    [
        psycopg.InterfaceError("the connection is closed"),
        psycopg.errors.DiskFull("could not extend file: no space left on device"),
        # What a managed server says whose disk is full, and one that has become a standby.
        psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"),
        psycopg.errors.UndefinedTable("the schema is another one"),
        sa.exc.TimeoutError("no connection is free"),
        OSError(28, "no space left on device"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_is_not_the_datas_fault_puts_no_event_aside(
    database: Database, log: PostgresLog, source_id: str, failure: Exception
) -> None:
    append_events(log, source_id, some_history()[:1])
    broken: list[Work] = []

    def break_three_times(_: Driver, work: Work) -> None:
        if len(broken) < 3:
            broken.append(work)
            raise failure

    worker = make_worker(database, log, steps=(*STEPS[:2], break_three_times, *STEPS[2:]))
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,), kwargs={"poll_seconds": 0.05})
    thread.start()
    for _ in range(200):
        if ask(database, "SELECT 1 FROM positions"):
            break
        stop.wait(0.05)
    stop.set()
    thread.join(30)
    assert ask(database, "SELECT count(*) FROM rejected") == [(0,)]
    assert ask(database, "SELECT count(*) FROM events") == [(1,)]


def test_the_events_of_a_source_made_just_now_are_not_set_aside(database: Database) -> None:
    directory = SourceDirectory(database)
    directory.refresh()
    with database.transaction() as connection:
        source, _ = create_source(driver(connection), "till", "store", {})
    assert directory.by_id(source.source_id) == source


def test_a_record_of_unknown_make_is_kept_and_passed_over(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    log.append([NewRecord(0, None, {"made-by": "somebody else"}, b"\x00\xff")]).result(30)
    append_events(log, source_id, some_history())
    drain(make_worker(database, log))
    assert ask(database, "SELECT value FROM dead_letters") == [(b"\x00\xff",)]
    assert ask(database, "SELECT count(*) FROM events") == [(len(some_history()) - 1,)]


def _work_and_die(url: str, die_after: int) -> None:
    """Run in a process of its own: kill it right after step number ``die_after``."""

    def die(_: Driver, __: Work) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    database = Database(url)
    log = PostgresLog(database, PARTITIONS)
    steps = (*STEPS[: die_after + 1], die, *STEPS[die_after + 1 :])
    drain(make_worker(database, log, steps=steps, name="doomed"))


@pytest.mark.parametrize("die_after", range(len(STEPS)), ids=[s.__name__ for s in STEPS])
def test_a_kill_after_any_step_loses_and_doubles_nothing(
    database: Database, log: PostgresLog, source_id: str, die_after: int
) -> None:
    history = some_history()
    append_events(log, source_id, history)
    context = multiprocessing.get_context("spawn")
    doomed = context.Process(target=_work_and_die, args=(database.url, die_after))
    doomed.start()
    doomed.join(60)
    assert doomed.exitcode == -signal.SIGKILL
    forget_workers(database)
    drain(make_worker(database, log, name="heir"))
    state = read_state(database)
    assert len(state["events"]) == len(history) - 1
    assert state["accounting"] == [(source_id, len(history) - 1, 1)]


def test_two_workers_that_merge_the_same_people_agree_with_one(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    # Everyone shares devices with the next, so that all partitions fight over one component.
    history = some_history() + [
        identify(f"tie-{n}", anonymousId=f"device-{n + 1}", userId=f"u{n}") for n in range(39)
    ]
    for event in history:
        append_events(log, source_id, [event], request_id=event["messageId"])
    workers = [make_worker(database, log, name=name) for name in ("one", "two")]
    stop = threading.Event()
    threads = [
        threading.Thread(target=w.run, args=(stop,), kwargs={"poll_seconds": 0.05}) for w in workers
    ]
    for thread in threads:
        thread.start()
    heads = "SELECT sum(next_offset) FROM log_heads"
    pause = threading.Event()
    for _ in range(600):
        if ask(database, "SELECT sum(next_offset) FROM positions") == ask(database, heads):
            break
        pause.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join(30)
    together = read_state(database)

    with database.transaction() as connection:
        connection.exec_driver_sql(
            "TRUNCATE nodes, links, node_profiles, profiles, traits, consents, events, ledger,"
            " refusals, accounting, positions, log_leases, log_workers RESTART IDENTITY CASCADE"
        )
    drain(make_worker(database, log, name="alone"))
    assert read_state(database) == together
