"""DuckDB follows a real Postgres: everything once, in commit order, whatever happens between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, driver
from cdp.storage.registered_engine import registered
from tests.support.committed import committing


def _rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in engine.read(sql).to_pylist()]


def test_a_person_and_their_event_arrive_with_every_part(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with database.transaction() as connection:
        number = (
            driver(connection)
            .execute(
                "INSERT INTO sources (source_id, name, type) VALUES ('src_1', 'web', 'web')"
                " RETURNING number"
            )
            .fetchone()
        )
    assert number is not None
    with committing(database, {"postgres": {3: 7}}) as batch:
        ann = batch.add_person("ann")
        message = batch.add_event(ann, "Order Completed", {"total": 12.5}, source=number[0])
        batch.set_trait(ann, "plan", "pro")

    step = feed.step(0)

    assert (step.batches, step.events, step.touched, step.is_caught_up) == (1, 1, {ann}, True)
    assert _rows(engine, "SELECT message_id, source_id, profile_id, event FROM events") == [
        (message, "src_1", "prf_user_id_ann", "Order Completed")
    ]
    assert _rows(engine, "SELECT profile_id, name, value::VARCHAR FROM traits") == [
        ("prf_user_id_ann", "plan", "pro")
    ]
    assert _rows(engine, 'SELECT total FROM "Order Completed"') == [(12.5,)]
    assert engine.applied_positions("postgres") == {3: 7}


def test_of_a_property_that_an_event_names_twice_the_last_counts_for_sql_too(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        batch.add_event(ann, "Bought", '{"total":1,"note":"安","total":2}')
        batch.add_event(ann, "Bought", {"total": 5, "note": "b"})
    feed.step(0)
    assert _rows(engine, 'SELECT total, note FROM "Bought" ORDER BY total') == [(2, "安"), (5, "b")]
    assert engine.read("SELECT properties ->> 'total' AS t FROM events ORDER BY 1").to_pylist() == [
        {"t": "2"},
        {"t": "5"},
    ]


def test_a_transaction_that_commits_late_is_not_skipped(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with database.engine.connect() as slow:
        tx = driver(slow)
        slow.exec_driver_sql("SELECT 1")
        early = open_batch(tx)
        with committing(database) as quick:
            quick.add_event(quick.add_person("quick"), "Seen")
        feed.step(0)
        close_batch(tx, early, BatchChanges(profiles={99}))
        slow.commit()
    step = feed.step(0)
    assert step.touched == {99}
    assert engine.applied_seq() == 2


def test_steps_without_news_change_nothing(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Seen")
    feed.step(0)
    step = feed.step(0)
    assert (step.batches, step.touched, step.is_caught_up) == (0, set(), True)
    assert _rows(engine, "SELECT count(*) FROM events") == [(1,)]


def test_a_merge_moves_past_events_to_the_surviving_profile(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann, visitor = batch.add_person("ann"), batch.add_person("a-1", "anonymous_id")
        batch.add_event(visitor, "Seen")
    feed.step(0)
    with committing(database) as batch:
        batch.merge([visitor], into=ann)

    step = feed.step(0)

    assert step.touched == {ann, visitor}
    assert step.merges == [{"from": f"prf_{visitor}", "into": f"prf_{ann}"}]
    assert _rows(engine, "SELECT profile_id FROM events") == [("prf_user_id_ann",)]
    assert _rows(engine, "SELECT profile_id, events FROM profiles") == [("prf_user_id_ann", 1)]
    assert _rows(engine, "SELECT type, value FROM identifiers ORDER BY 1") == [
        ("anonymous_id", "a-1"), ("user_id", "ann"),
    ]  # fmt: skip


def test_events_of_a_shared_device_belong_to_whom_had_it_then(
    database: Database, engine: Engine, feed: Feed
) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with committing(database) as batch:
        ann, device = batch.add_person("ann"), batch.add_person("d", "device_id")
        batch.add_event(device, "Seen", at=noon - timedelta(hours=1))
        batch.add_event(device, "Seen", at=noon)
        batch.tx.execute(
            "UPDATE node_profiles SET until = %s, profile_no = %s WHERE node_id = %s",
            (noon, ann, device),
        )
        batch.tx.execute(
            "INSERT INTO node_profiles VALUES (%s, %s, 'infinity', %s)", (device, noon, device)
        )
    feed.step(0)
    assert _rows(engine, "SELECT profile_id FROM events ORDER BY timestamp") == [
        ("prf_user_id_ann",), ("prf_device_id_d",),
    ]  # fmt: skip
    assert _rows(engine, "SELECT profile_id, events FROM profiles ORDER BY 1") == [
        ("prf_device_id_d", 1), ("prf_user_id_ann", 1),
    ]  # fmt: skip


def test_an_erased_person_leaves_no_row(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        for node in (ann, bob):
            batch.add_event(node, "Seen")
            batch.set_trait(node, "plan", "pro")
    feed.step(0)
    with committing(database) as batch:
        batch.erase(ann)

    assert feed.step(0).touched == {ann}

    for table in ("events", "nodes", "node_profiles", "node_traits"):
        assert _rows(engine, f"SELECT DISTINCT node_id FROM core.{table}") == [(bob,)]
    assert _rows(engine, "SELECT profile_no FROM core.profiles") == [(bob,)]


def test_removed_traits_vanish_and_the_newest_value_of_a_merged_person_counts(
    database: Database, engine: Engine, feed: Feed
) -> None:
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    with committing(database) as batch:
        ann, other = batch.add_person("ann"), batch.add_person("other")
        batch.set_trait(ann, "city", "上海", old)
        batch.set_trait(other, "city", "北京", new)
        batch.set_trait(ann, "plan", "pro", old)
        batch.set_trait(other, "plan", None, new)
        batch.merge([other], into=ann)
    feed.step(0)
    assert _rows(engine, "SELECT name, value::VARCHAR FROM traits") == [("city", "北京")]


def test_a_backlog_is_taken_in_bounded_pieces(
    database: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdp.analytics.feed.MOST_EVENTS", 2)
    for name in ("a", "b", "c"):
        with committing(database) as batch:
            person = batch.add_person(name)
            batch.add_event(person, "Seen")
    feed = Feed(database, engine)
    first, second = feed.step(0), feed.step(0)
    feed.close()
    assert (first.batches, first.is_caught_up) == (2, False)
    assert (second.batches, second.is_caught_up) == (1, True)


def test_a_waiting_step_wakes_up_for_a_batch(
    database: Database, engine: Engine, feed: Feed
) -> None:
    feed.step(0)

    def commit() -> None:
        with committing(database) as batch:
            batch.add_event(batch.add_person("ann"), "Seen")

    timer = threading.Timer(0.3, commit)
    timer.start()
    step = feed.step(60)  # A step that slept through it would run into the test's time limit.
    timer.join()
    assert step.events == 1


def test_new_properties_and_kinds_of_values_show_in_the_event_table(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        batch.add_event(ann, "Paid", {"total": 5})
    feed.step(0)
    with committing(database) as batch:
        batch.add_event(ann, "Paid", {"total": 1.5, "coupon": "x"})
        batch.add_event(ann, None, {"email": "ann@example.com"}, kind="identify")
        batch.add_event(ann, "Home", {"name": "Home"}, kind="page")
    feed.step(0)
    assert _rows(engine, "SELECT total, coupon FROM paid ORDER BY timestamp") == [
        (5.0, None), (1.5, "x"),
    ]  # fmt: skip
    assert _rows(engine, "SELECT name FROM page") == [("Home",)]
    assert _rows(engine, "SELECT type FROM events WHERE event IS NULL") == [("identify",)]


def test_changed_segments_arrive_without_a_batch(
    database: Database, engine: Engine, feed: Feed
) -> None:
    feed.step(0)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO segments (key, name, rule, version) VALUES ('vip', 'VIP', '{}', 1)"
        )
    feed.step(0)
    assert _rows(engine, "SELECT key, name FROM segments") == [("vip", "VIP")]


def test_a_restart_goes_on_where_the_file_stands(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "kept.duckdb"
    for name in ("ann", "bob"):
        with committing(database, {"postgres": {0: 1}}) as batch:
            batch.add_event(batch.add_person(name), f"Seen {name}")
        engine = Engine(path)
        feed = Feed(database, engine)
        assert feed.step(0).batches == 1
        feed.close()
        engine.close()
    engine = Engine(path)
    assert engine.applied_positions("postgres") == {0: 1}
    assert _rows(engine, "SELECT count(*) FROM events") == [(2,)]
    assert _rows(engine, "SELECT count(*) FROM seen_ann") == [(1,)]
    engine.close()


class Overwhelmed(Engine):
    """Commits without saying so, and then has no memory to say how far it is."""

    failures = 0

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with super().write() as duck:
            yield duck
        self._fail()

    def recall(self) -> None:
        self._fail()
        super().recall()

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise duckdb.OutOfMemoryException("all of it is taken")


def test_a_step_whose_outcome_was_not_heard_is_not_taken_twice(
    database: Database, tmp_path: Path
) -> None:
    engine = Overwhelmed(tmp_path / "analytics.duckdb", "256MB", 2)
    feed = Feed(database, engine)
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Came", {})
    engine.failures = 2
    for _ in range(2):
        with pytest.raises(duckdb.OutOfMemoryException):
            feed.step(0)
    feed.step(0)
    assert _rows(engine, "SELECT count(*) FROM main.came") == [(1,)]
    feed.close()
    engine.close()


def test_a_statement_that_fails_in_a_step_is_what_is_told(
    database: Database, engine: Engine
) -> None:
    with (
        pytest.raises(duckdb.ConversionException),
        engine.write() as duck,
        registered(duck, "incoming", pa.table({"key": ["x"]})),
    ):
        duck.execute("INSERT INTO core.applied (seq) SELECT key FROM incoming")


def test_another_history_in_postgres_is_fed_from_its_start(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        batch.add_event(batch.add_person("before"), "Seen")
    feed.step(0)
    feed.close()
    with database.transaction() as connection:  # As a restored backup would leave it.
        connection.exec_driver_sql(
            "TRUNCATE batches, events, nodes, node_profiles, profiles CASCADE"
        )
        connection.exec_driver_sql("UPDATE batch_head SET next_seq = 1")
    with committing(database) as batch:
        batch.add_event(batch.add_person("after"), "Seen")
    later = Feed(database, engine)
    later.step(0)
    later.close()
    assert _rows(engine, "SELECT profile_id FROM events") == [("prf_user_id_after",)]


def test_a_rebuild_gives_the_same_rows(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database, {"postgres": {0: 4}}) as batch:
        ann = batch.add_person("ann")
        batch.add_event(ann, "Seen", {"a": 1})
        batch.set_trait(ann, "plan", "pro")
    feed.step(0)
    tables = ("events", "nodes", "node_profiles", "profiles", "node_traits", "event_properties")
    before = [_rows(engine, f"SELECT columns(*)::VARCHAR FROM core.{table}") for table in tables]
    feed.rebuild()
    assert [
        _rows(engine, f"SELECT columns(*)::VARCHAR FROM core.{table}") for table in tables
    ] == before
    assert engine.applied_positions("postgres") == {0: 4}
    assert _rows(engine, "SELECT a FROM seen") == [(1,)]


def test_the_feed_outlives_postgres_being_away(database: Database, engine: Engine) -> None:
    feed = Feed(database, engine)
    feed.step(0)
    with psycopg.connect(database.libpq_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    database.engine.dispose()
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Seen")
    assert sum(feed.step(0).events for _ in range(5)) == 1
    feed.close()


def test_a_postgres_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "a.duckdb")
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    feed = Feed(nowhere, engine)
    step = feed.step(0.05)
    assert (step.batches, step.is_caught_up) == (0, False)
    feed.close()
    engine.close()


def test_as_of_waits_for_what_the_log_held_when_it_was_looked_at(
    database: Database, engine: Engine
) -> None:
    feed = Feed(database, engine, lambda: ("postgres", {0: 5, 1: 0}))
    with committing(database, {"postgres": {0: 3}}) as batch:
        batch.add_event(batch.add_person("ann"), "Seen")
    assert feed.step(0).as_of is None
    with committing(database, {"postgres": {0: 5}}) as batch:
        batch.add_event(batch.add_person("bob"), "Seen")
    reached = feed.step(0).as_of
    assert reached is not None
    later = feed.step(0).as_of
    assert later is not None
    assert later > reached  # Nothing arrives, so time alone moves it.
    feed.close()


def test_without_sight_of_the_log_as_of_is_the_newest_receipt(
    database: Database, feed: Feed
) -> None:
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Seen")
    assert feed.step(0).as_of == batch.received_until


_FEEDING = """
import sys
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.storage.database import Database

feed = Feed(Database(sys.argv[1]), Engine(sys.argv[2]))
while True:
    print(feed.step(0.01).events, flush=True)
"""


def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "killed.duckdb"
    written = 0
    for life in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_FEEDING), database_url, str(path)],
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            for number in range(8):
                with committing(database) as batch:
                    node = batch.add_person(f"p-{life}-{number}")
                    for _ in range(20):
                        batch.add_event(node, f"Event {number}", {f"key {life}": number})
                written += 20
                if number == 2 + life % 5:
                    os.kill(child.pid, signal.SIGKILL)
    engine = Engine(path)
    feed = Feed(database, engine)
    feed.catch_up()
    assert _rows(engine, "SELECT count(*), count(DISTINCT (seq, ordinal)) FROM core.events") == [
        (written, written)
    ]
    assert _rows(engine, "SELECT count(*), count(DISTINCT node_id) FROM core.nodes") == [(48, 48)]
    assert _rows(engine, 'SELECT count("key 5") FROM event_7') == [(20,)]
    feed.close()
    engine.close()
