"""DuckDB fed anew on demand: nobody sees half of it, and a process that dies is continued."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.analytics.rebuild import RebuildingFeed
from cdp.analytics.rebuild_store import Rebuild, ask, find_newest
from cdp.errors import Unavailable
from cdp.storage.database import Database, driver
from tests.support.identity_rows import apply, make_store
from tests.support.identity_world import saw

HERE = "here:/data"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "analytics.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def feed(database: Database, engine: Engine) -> Iterator[Feed]:
    store = make_store()
    for n in range(4):
        apply(database, store, saw(f"user_id:u{n}", n))
    made = Feed(database, engine)
    made.catch_up()
    yield made
    made.close()


def _ask(database: Database) -> Rebuild:
    with database.transaction() as connection:
        return ask(driver(connection), HERE, "token:test")


def _state(database: Database) -> str:
    with database.transaction() as connection:
        newest = find_newest(driver(connection))
    assert newest is not None
    return newest.state_at(HERE)


def _count_elsewhere(engine: Engine) -> int:
    """Count the profiles in another thread, as a request does."""
    with ThreadPoolExecutor(1) as others:
        table = others.submit(engine.read, "SELECT count(*) AS n FROM core.profiles").result()
    return int(table["n"][0].as_py())


def test_readers_are_kept_out_until_everything_is_there_again(
    database: Database, engine: Engine, feed: Feed
) -> None:
    rebuilding = RebuildingFeed(database, engine, feed, HERE)
    asked = _ask(database)
    assert _state(database) == "waiting"
    assert _count_elsewhere(engine) == 4
    assert rebuilding.step(0).is_caught_up
    rebuilding.settle("behind")
    with pytest.raises(Unavailable) as refused:
        _count_elsewhere(engine)
    assert (refused.value.code, refused.value.details) == ("analytics_rebuilding", {"share": 1.0})
    assert _state(database) == "feeding"
    rebuilding.settle("refreshed")
    assert _count_elsewhere(engine) == 4
    assert _state(database) == "done"
    assert _ask(database).rebuild_no > asked.rebuild_no


def test_asking_again_before_it_is_done_is_the_same_question(database: Database) -> None:
    assert _ask(database) == _ask(database)


def test_it_is_done_once(database: Database, engine: Engine, feed: Feed) -> None:
    rebuilding = RebuildingFeed(database, engine, feed, HERE)
    _ask(database)
    rebuilding.step(0)
    rebuilding.settle("refreshed")
    again = RebuildingFeed(database, engine, feed, HERE)
    assert again.step(0).batches == 0
    assert _count_elsewhere(engine) == 4


@pytest.mark.parametrize("state", ["emptying", "feeding"])
def test_a_process_that_died_half_way_is_continued(
    database: Database, engine: Engine, feed: Feed, state: str
) -> None:
    _ask(database)
    RebuildingFeed(database, engine, feed, HERE).step(0)
    with database.transaction() as connection:
        driver(connection).execute("UPDATE analytics_rebuild_runs SET state = %s", (state,))
    engine.open_to_readers()
    following = RebuildingFeed(database, engine, feed, HERE)
    assert following.step(0).batches == (4 if state == "emptying" else 0)
    with pytest.raises(Unavailable):
        _count_elsewhere(engine)
    following.settle("nothing_to_do")
    assert _count_elsewhere(engine) == 4


def test_a_new_file_has_nothing_to_rebuild(database: Database, feed: Feed, tmp_path: Path) -> None:
    _ask(database)
    fresh = Engine(tmp_path / "other.duckdb")
    other = Feed(database, fresh)
    RebuildingFeed(database, fresh, other, HERE).step(0)
    assert _state(database) == "done"
    assert _count_elsewhere(fresh) == 4
    other.close()
    fresh.close()
