"""What became of every line: the worker's accounting on a real Postgres, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.format import RejectedLine, RequestLines, pack_record
from cdp.log.port import NewRecord
from cdp.log.postgres_log import PostgresLog
from cdp.pipeline import STEPS, Step, Work
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, Driver, driver
from cdp.worker import Worker
from tests.support.wire import RECEIVED_AT, append_events, track

AT = format_time(RECEIVED_AT)


@pytest.fixture
def log(database: Database) -> Iterator[PostgresLog]:
    log = PostgresLog(database, 2)
    yield log
    log.close()


@pytest.fixture
def source_id(database: Database) -> str:
    with database.transaction() as connection:
        return create_source(driver(connection), "shop", "server", {})[0].source_id


def drain(database: Database, log: PostgresLog, *, steps: tuple[Step, ...] = STEPS) -> None:
    rules = default_rules("CN")
    with database.transaction() as connection:
        salt = ensure_salt(driver(connection))
    worker = Worker(
        database,
        log,
        SourceDirectory(database),
        IdentityStore(rules, salt),
        partial(identify_claims, rules=rules),
        steps=steps,
        worker_id="one",
    )
    while worker.step(0):
        pass
    worker.close()


def ask(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def read_totals(database: Database) -> tuple[int, int, int, int]:
    """Received, stored, duplicate, rejected."""
    ((*totals,),) = ask(
        database,
        "SELECT sum(received)::int, sum(stored)::int, sum(duplicate)::int, sum(rejected)::int"
        " FROM accounting",
    )
    received, stored, duplicate, rejected = totals
    return received, stored, duplicate, rejected


def refuse(source_id: str, *lines: RejectedLine, request_id: str = "req_1") -> NewRecord:
    import msgspec

    encoded = [msgspec.json.encode(line) for line in lines]
    request = RequestLines(request_id, AT, None, encoded)
    return pack_record(0, None, source_id, [request], "rejected")


def test_a_refused_line_that_the_log_brings_twice_is_kept_once_and_counts_as_a_duplicate(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    # A group that was committed, and appended again because its acknowledgement was lost.
    record = refuse(
        source_id,
        RejectedLine("no_identifier", "why", b"{}", None, 0),
        RejectedLine("no_identifier", "why", b"{}", None, 1),
    )
    log.append([record, record]).result(30)
    drain(database, log)
    log.append([record]).result(30)
    drain(database, log)
    assert ask(database, "SELECT place FROM rejected ORDER BY 1") == [(0,), (1,)]
    assert read_totals(database) == (6, 0, 4, 2)


def test_equal_refused_lines_of_two_requests_are_two(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    line = RejectedLine("no_identifier", "why", b"{}", None, 0)
    log.append([refuse(source_id, line), refuse(source_id, line, request_id="req_2")]).result(30)
    drain(database, log)
    assert read_totals(database) == (2, 0, 0, 2)


def refuse_poison(_: Driver, work: Work) -> None:
    """Stands for a statement that one event's data makes fail."""
    if any(one.message_id == "poison" for one in work.fresh):
        raise ValueError("this cannot be stored")


def test_what_cannot_be_processed_is_kept_as_rejected_so_that_the_sum_holds(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    events = [track("Viewed", f"m{n}", userId="ann") for n in range(5)]
    append_events(log, source_id, [*events, track("Poison", "poison", userId="ann")])
    drain(database, log, steps=(*STEPS[:2], refuse_poison, *STEPS[2:]))
    assert read_totals(database) == (6, 5, 0, 1)
    (row,) = ask(database, "SELECT code, kind, message_id, raw FROM rejected")
    assert row[:3] == ("unprocessable", "events", "poison")
    assert json.loads(row[3])["messageId"] == "poison"


def test_lines_of_a_source_that_is_gone_are_kept_as_rejected(
    database: Database, log: PostgresLog
) -> None:
    append_events(log, "src_gone", [track("Viewed", "m1", userId="ann")])
    log.append([refuse("src_gone", RejectedLine("no_identifier", "why", b"{}", None, 0))]).result(
        30
    )
    drain(database, log)
    assert ask(database, "SELECT code, message_id FROM rejected ORDER BY 1") == [
        ("no_identifier", None),
        ("unknown_source", "m1"),
    ]
    assert read_totals(database) == (2, 0, 0, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"cdp-format": "99"},
        {"cdp-kind": "letters"},
        {"cdp-requests": json.dumps([["r", AT, None, 7]])},
    ],
)
def test_a_record_that_nobody_can_read_counts_as_many_lines_as_its_headers_say(
    database: Database, log: PostgresLog, source_id: str, change: dict[str, str]
) -> None:
    record = pack_record(0, None, source_id, [RequestLines("r", AT, None, [b"{}", b"{}"])])
    bad = NewRecord(0, None, {**record.headers, **change}, record.value)
    log.append([bad]).result(30)
    drain(database, log)
    lines = 7 if "cdp-requests" in change else 2
    assert read_totals(database) == (lines, 0, 0, lines)
    assert len(ask(database, "SELECT 1 FROM dead_letters")) == 1


@pytest.mark.parametrize("time", ["yesterday", ""])
def test_a_record_without_readable_times_stops_nobody(
    database: Database, log: PostgresLog, source_id: str, time: str
) -> None:
    log.append([pack_record(0, None, source_id, [RequestLines("r", time, None, [b"{}"])])]).result(
        30
    )
    append_events(log, source_id, [track("Viewed", "m1", userId="ann")])
    drain(database, log)
    assert ask(database, "SELECT message_id FROM events") == [("m1",)]
    assert len(ask(database, "SELECT 1 FROM dead_letters")) == 1


def test_a_refused_line_that_cannot_be_read_stops_nobody(
    database: Database, log: PostgresLog, source_id: str
) -> None:
    request = RequestLines("r", AT, None, [b'{"code": 7}'])
    log.append([pack_record(0, None, source_id, [request], "rejected")]).result(30)
    drain(database, log)
    assert ask(database, "SELECT code, raw FROM rejected") == [("unprocessable", b'{"code": 7}')]
