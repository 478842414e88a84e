"""DuckDB fed anew from Postgres and the archive holds what it held before, whatever happened."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.analytics.typed_engine import TypedTables
from cdp.archive.read_parts import iterate_rows
from cdp.segments.typed_events_engine import read_typed
from cdp.storage.database import Database
from tests.support.archive_world import ArchiveWorld, days_ago
from tests.support.wire import track

_TABLES = {
    "events": "SELECT * FROM core.events ORDER BY seq, ordinal",
    "orders": "SELECT * FROM core.orders ORDER BY order_no",
    "nodes": "SELECT * FROM core.nodes ORDER BY node_id",
    "people": "SELECT * REPLACE (since::VARCHAR AS since, until::VARCHAR AS until)"
    " FROM core.node_profiles ORDER BY node_id, since",
}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    yield made
    made.close()


class Fed:
    """A DuckDB file and its feed."""

    def __init__(self, world: ArchiveWorld, name: str) -> None:
        self.engine = Engine(world.folder / f"{name}.duckdb", "256MB", 2)
        read_part = partial(iterate_rows, world.folder_of_archive)
        self.feed = Feed(world.database, self.engine, None, read_part)
        self.feed.catch_up()
        while TypedTables(self.engine).keep({"Order Completed": ["total"], "Seen": []}):
            pass

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        for event, typed in read_typed(self.engine).items():
            held = f"SELECT seq, ordinal, node_id FROM {typed.table} ORDER BY ALL"
            meant = (
                "SELECT seq, ordinal, node_id FROM core.events"
                f" WHERE event = '{event}' ORDER BY ALL"
            )
            assert self.engine.read(held) == self.engine.read(meant), event
        return {name: self.engine.read(sql).to_pylist() for name, sql in _TABLES.items()}

    def close(self) -> None:
        self.feed.close()
        self.engine.close()


@pytest.fixture
def fed(world: ArchiveWorld) -> Iterator[Fed]:
    fill(world)
    made = Fed(world, "followed")
    yield made
    made.close()


def fill(world: ArchiveWorld) -> None:
    for day in (9, 8, 7, 4, 1):
        at = days_ago(day)
        buyer = "ann" if day % 2 else "bob"
        world.receive(
            [
                track("Seen", f"{buyer}-{day}", at=at, userId=buyer, anonymousId="tablet"),
                track("Seen", f"tablet-{day}", at=at, anonymousId="tablet"),
                track(
                    "Order Completed",
                    f"o-{day}",
                    at=at,
                    userId=buyer,
                    properties={"order_id": f"O{day}", "total": 5, "currency": "CNY"},
                ),
            ],
            days=day,
        )


def prove_equal(world: ArchiveWorld, fed: Fed, count: int) -> None:
    """Fed step by step, and fed at once: the same."""
    fed.feed.catch_up()
    anew = Fed(world, f"anew-{count}")
    try:
        assert fed.dump() == anew.dump()
        assert len(fed.dump()["events"]) == count
    finally:
        anew.close()


def test_a_file_fed_anew_equals_the_one_that_followed_through_drops_and_late_rows(
    world: ArchiveWorld, fed: Fed
) -> None:
    world.archive(keep_days=5)
    assert world.query("SELECT count(*) FROM events") == [(6,)]
    prove_equal(world, fed, 15)
    world.receive([track("Late", "late", at=days_ago(9), userId="ann")], days=9)
    prove_equal(world, fed, 16)
    world.archive(keep_days=5)
    prove_equal(world, fed, 16)


def test_a_file_that_lags_behind_a_drop_misses_nothing(world: ArchiveWorld, fed: Fed) -> None:
    world.receive([track("Late", "late", at=days_ago(9), userId="ann")], days=9)
    world.archive(keep_days=5)
    fed.feed.catch_up()
    assert "late" in {row["message_id"] for row in fed.dump()["events"]}
    prove_equal(world, fed, 16)


def test_after_a_deletion_both_hold_the_same_of_a_shared_device(
    world: ArchiveWorld, fed: Fed
) -> None:
    world.archive(keep_days=5)
    fed.feed.catch_up()
    world.ask("delete", "user_id:ann")
    world.carry_out()
    fed.feed.catch_up()
    left = {row["message_id"] for row in fed.dump()["events"]}
    assert not any(one.startswith("ann") for one in left)
    assert {"bob-8", "bob-4", "tablet-8", "tablet-4"} <= left
    prove_equal(world, fed, len(left))
    assert fed.engine.compact(seconds=5)
    prove_equal(world, fed, len(left))


def test_a_rebuild_drops_and_takes_everything_again(world: ArchiveWorld, fed: Fed) -> None:
    world.archive(keep_days=5)
    fed.feed.catch_up()
    before = fed.dump()
    fed.feed.rebuild()
    assert fed.dump() == before


def test_times_in_the_archive_are_those_of_postgres(world: ArchiveWorld, fed: Fed) -> None:
    world.archive(keep_days=5)
    fed.feed.rebuild()
    [row] = [row for row in fed.dump()["events"] if row["message_id"] == "ann-9"]
    assert row["at"].astimezone(datetime.UTC) == days_ago(9)
