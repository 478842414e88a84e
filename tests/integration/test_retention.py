"""Events whose time is over are gone everywhere; what they came to stays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.archive.keep_time import let_go, read_cutoffs
from cdp.archive.read_parts import iterate_rows
from cdp.archive.retention import Rule, list_cutoffs
from cdp.archive.retention_store import read_removals, replace_rules
from cdp.storage.database import Database, driver
from tests.support.archive_world import TODAY, ArchiveWorld, days_ago
from tests.support.wire import identify, track


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    for day in (9, 8, 4, 1):
        at = days_ago(day)
        made.receive(
            [
                identify(f"i-{day}", at=at, userId="ann", traits={"city": f"city-{day}"}),
                track("Seen", f"s-{day}", at=at, userId="ann"),
                track(
                    "Order Completed",
                    f"o-{day}",
                    at=at,
                    userId="ann",
                    properties={"order_id": f"O{day}", "total": 5, "currency": "CNY"},
                ),
            ],
            days=day,
        )
    yield made
    made.close()


def put(world: ArchiveWorld, *rules: Rule) -> None:
    with world.database.transaction() as connection:
        replace_rules(driver(connection), rules)


def run(world: ArchiveWorld) -> int:
    cutoffs = read_cutoffs(world.database, TODAY)
    return let_go(world.database, world.folder_of_archive, cutoffs, TODAY)


def held(world: ArchiveWorld) -> tuple[set[str], set[str]]:
    """The messages in Postgres and in the archive."""
    in_postgres = {row[0] for row in world.query("SELECT message_id FROM events")}
    files = world.list_files()
    return in_postgres, {
        one for file in files for one in pq.read_table(file)["message_id"].to_pylist()
    }


def test_events_of_a_name_go_everywhere_with_counts_told(world: ArchiveWorld) -> None:
    engine = Engine(world.folder / "a.duckdb", "256MB", 2)
    feed = Feed(world.database, engine, None, partial(iterate_rows, world.folder_of_archive))
    world.archive(keep_days=5)
    feed.catch_up()
    put(world, Rule(None, "Seen", 3))
    assert run(world) == 3
    in_postgres, in_archive = held(world)
    assert {one for one in in_postgres | in_archive if one.startswith("s-")} == {"s-1"}
    feed.catch_up()
    seen = engine.read("SELECT message_id FROM core.events WHERE event = 'Seen'").to_pylist()
    assert seen == [{"message_id": "s-1"}]
    with world.database.transaction() as connection:
        [row] = read_removals(driver(connection))
    assert (row["event"], row["removed"]) == ("Seen", 3)
    feed.close()
    engine.close()


def test_what_events_came_to_stays(world: ArchiveWorld) -> None:
    put(world, Rule(world.source_id, None, 2))
    assert run(world) == 9
    ann = world.find("user_id:ann")
    assert ann is not None
    assert [one.value for one in ann.registers] == ["city-1"]
    assert world.query("SELECT count(*) FROM orders") == [(4,)]
    assert sum(node.events for node in ann.nodes) == 12


def test_a_second_run_removes_and_counts_nothing(world: ArchiveWorld) -> None:
    world.archive()
    put(world, Rule(None, None, 3))
    assert run(world) == 9
    assert run(world) == 0
    assert world.archive(keep_days=3).failed == []


def test_a_source_may_have_a_time_of_its_own_in_its_settings(world: ArchiveWorld) -> None:
    with world.database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE sources SET settings = settings || '{\"retention_days\": 6}'"
        )
    assert run(world) == 6


def test_of_several_rules_the_shortest_time_wins() -> None:
    rules = [
        Rule(None, None, 30),
        Rule("a", None, 10),
        Rule("a", "Seen", 20),
        Rule("gone", None, 1),
    ]
    found = list_cutoffs(rules, {"a": 1, "b": 2}, TODAY)
    cutoffs = {(one.source_number, one.event): one.before for one in found}
    assert cutoffs == {(1, ""): days_ago(10), (1, "Seen"): days_ago(20), (2, ""): days_ago(30)}
