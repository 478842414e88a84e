"""What only the log in Postgres has to prove: commit order, late commits, retention."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cdp.errors import SetupError
from cdp.log.open import open_log
from cdp.log.port import Log, LogUnavailable
from cdp.log.postgres_append import write_records
from cdp.log.postgres_log import PostgresLog
from cdp.log.postgres_read import READ
from cdp.settings import Settings
from cdp.storage.database import Database
from cdp.storage.partitions import ensure_partitions, list_partitions
from tests.contract.conftest import Place, make_place
from tests.contract.log_records import (
    PATIENCE_SECONDS,
    append,
    read_all,
    record,
    values,
    wait_until,
)


@pytest.fixture
def place(database: Database):  # type: ignore[no-untyped-def]
    made = make_place(database, None)
    yield made
    made.close()


def test_a_reader_never_skips_a_late_commit(place: Place, log: Log) -> None:
    """Two real transactions: the one that took its offsets first commits last."""
    append(log, record(0, "first"))
    with psycopg.connect(place.database.libpq_url) as late:
        assert write_records(late, [record(0, "late")]) == [1]
        future = log.append([record(0, "early")])
        wait_until(lambda: _somebody_waits_for_a_lock(place.database))
        # Nothing beyond the open transaction may show, or a reader would pass over it.
        assert values(log.read({0: 0}, max_bytes=1000, wait_seconds=0)) == ["first"]
        assert not future.done()
        late.commit()
    assert future.result(timeout=PATIENCE_SECONDS) == [2]
    assert values(read_all(log, {0: 0})) == ["first", "late", "early"]


def test_a_transaction_that_fails_leaves_no_gap(place: Place, log: Log) -> None:
    with psycopg.connect(place.database.libpq_url) as connection:
        write_records(connection, [record(0, "never"), record(1, "never")])
        connection.rollback()
    assert append(log, record(0, "a"), record(1, "b")) == [0, 0]
    assert values(read_all(log, {0: 0, 1: 0})) == ["a"]


def test_appenders_that_touch_the_same_partitions_in_any_order_never_deadlock(
    place: Place,
) -> None:
    logs = [place.open() for _ in range(4)]
    orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]]

    def run(log: PostgresLog, order: list[int]) -> list[list[int]]:
        return [append(log, *[record(p, "x") for p in order]) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        given = [item for result in pool.map(run, logs, orders) for item in result]
    assert len(given) == 200
    assert logs[0].end_positions() == {0: 200, 1: 200, 2: 200, 3: 200}


def test_calls_that_wait_together_are_committed_together(place: Place, log: Log) -> None:
    with psycopg.connect(place.database.libpq_url) as blocker:
        write_records(blocker, [record(0, "held")])
        futures = [log.append([record(0, f"v{n}")]) for n in range(100)]
        blocker.commit()
    for future in futures:
        future.result(timeout=PATIENCE_SECONDS)
    with psycopg.connect(place.database.libpq_url) as connection:
        row = connection.execute("SELECT count(DISTINCT written_at) FROM log_records").fetchone()
    assert row is not None
    assert row[0] < 100


def test_a_record_that_postgres_refuses_fails_and_the_log_goes_on(place: Place, log: Log) -> None:
    with place.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE log_records ADD CHECK (value <> 'bad')")
    with pytest.raises(LogUnavailable, match="check constraint"):
        append(log, record(0, "bad"))
    assert append(log, record(0, "next")) == [0]


def test_days_that_are_over_and_done_are_dropped_whole(place: Place, log: Log) -> None:
    today = datetime.now(UTC)
    old = _write_on(place.database, today - timedelta(days=9), ["a", "b"])
    append(log, record(0, "today"))
    assert log.drop_before(today - timedelta(days=7), {0: 3}) == 1
    assert old not in _tables(place.database)
    assert values(read_all(log, {0: 0})) == ["today"]
    assert append(log, record(0, "next")) == [3]


def test_a_day_that_somebody_still_has_to_read_is_kept(place: Place, log: Log) -> None:
    today = datetime.now(UTC)
    old = _write_on(place.database, today - timedelta(days=9), ["a", "b"])
    assert log.drop_before(today - timedelta(days=7), {0: 1}) == 0
    assert log.drop_before(today - timedelta(days=7), {}) == 0
    assert old in _tables(place.database)
    assert values(read_all(log, {0: 0})) == ["a", "b"]


def test_a_day_that_is_not_wholly_over_is_kept(place: Place, log: Log) -> None:
    today = datetime.now(UTC)
    old = _write_on(place.database, today - timedelta(days=7), ["a"])
    assert log.drop_before(today - timedelta(days=7), {0: 1}) == 0
    assert old in _tables(place.database)


def test_the_appender_makes_the_partitions_that_it_needs(place: Place) -> None:
    with place.database.transaction() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        for name, _ in list_partitions(driver, "log_records"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
    append(place.open(), record(0, "x"))
    days = _tables(place.database)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert f"log_records_{tomorrow:%Y%m%d}" in days


def test_processes_that_open_a_new_log_together_agree_on_its_partitions(
    place: Place,
) -> None:
    with ThreadPoolExecutor(4) as pool:
        logs = list(pool.map(lambda n: PostgresLog(place.database, n), [3, 4, 5, 6]))
    assert len({log.partitions for log in logs}) == 1
    for log in logs:
        log.close()


def test_a_database_that_does_not_answer_is_one_line_for_the_operator() -> None:
    nowhere = Database("postgresql://postgres@127.0.0.1:1/nothing")
    with pytest.raises(SetupError, match="CDP_DATABASE_URL") as refused:
        open_log(Settings(), nowhere)
    assert "\n" not in str(refused.value)


def test_reading_looks_only_at_what_it_returns(place: Place, log: Log) -> None:
    append(log, *[record(n % 4, "x" * 100) for n in range(20_000)])
    with psycopg.connect(place.database.libpq_url) as connection:
        connection.execute("ANALYZE log_records")
        rows = connection.execute("EXPLAIN " + READ, ([1, 3], [4990, 5000], 4000, 1000)).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert f"Seq Scan on log_records_{datetime.now(UTC):%Y%m%d}" not in plan
    assert "Index Scan" in plan


def _write_on(database: Database, day: datetime, texts: list[str]) -> str:
    """Write records of partition 0 as if it were ``day``; return the table that holds them."""
    ensure_partitions(database, [day.date()])
    with psycopg.connect(database.libpq_url) as connection:
        for text in texts:
            connection.execute(
                """WITH head AS (UPDATE log_heads SET next_offset = next_offset + 1
                                  WHERE partition = 0 RETURNING next_offset - 1 AS at)
                   INSERT INTO log_records (partition, record_offset, written_at, headers, value)
                   SELECT 0, at, %s, '{}', %s FROM head""",
                (day, text.encode()),
            )
    return f"log_records_{day:%Y%m%d}"


def _tables(database: Database) -> list[str]:
    with psycopg.connect(database.libpq_url) as connection:
        return [name for name, _ in list_partitions(connection, "log_records")]


def _somebody_waits_for_a_lock(database: Database) -> bool:
    with psycopg.connect(database.libpq_url) as connection:
        row = connection.execute(
            """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        ).fetchone()
    return row is not None and row[0] > 0
