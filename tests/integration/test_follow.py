"""The follower over real batches: Postgres to DuckDB to memberships, whatever fails on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.follow import Follower
from cdp.segments import mirror_engine, segments_store
from cdp.segments.refresh import Refresher
from cdp.segments.refresh_reached import Refreshed
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, driver

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@dataclass
class Step:
    batches: int = 0
    is_caught_up: bool = True


@dataclass
class ScriptedFeed:
    """Gives the steps of a script, then nothing for ever."""

    script: list[Step | Exception] = field(default_factory=list)
    steps: int = 0

    def step(self, wait_seconds: float) -> Step:
        self.steps += 1
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            return step
        time.sleep(min(wait_seconds, 0.01))
        return Step()


@dataclass
class CountingEvaluator:
    """Counts refreshes; time is due when it is said to be."""

    due: bool = False
    outcomes: list[str | Exception] = field(default_factory=list)
    refreshes: int = 0

    def refresh(self, now: datetime) -> Refreshed:
        self.refreshes += 1
        outcome = self.outcomes.pop(0) if self.outcomes else "refreshed"
        if isinstance(outcome, Exception):
            raise outcome
        return Refreshed(outcome, mirror_engine.NOTHING_APPLIED, changes=1)  # type: ignore[arg-type]

    def is_time_due(self, now: datetime) -> bool:
        return self.due


@pytest.fixture
def running() -> Iterator[Callable[..., Follower]]:
    started: list[Follower] = []

    def start(feed: ScriptedFeed, evaluator: CountingEvaluator) -> Follower:
        follower = Follower(feed, evaluator, now=lambda: NOON)
        started.append(follower)
        follower.start()
        return follower

    yield start
    for follower in started:
        assert follower.stop()


Start = Callable[[ScriptedFeed, CountingEvaluator], Follower]


def test_it_refreshes_at_its_start_and_after_every_batch(running: Start) -> None:
    feed, evaluator = ScriptedFeed([Step(), Step(), Step(3), Step()]), CountingEvaluator()

    running(feed, evaluator)
    wait_until(lambda: feed.steps > 8)

    assert evaluator.refreshes == 2


def test_it_refreshes_when_only_time_passes(running: Start) -> None:
    feed, evaluator = ScriptedFeed(), CountingEvaluator(due=True)

    running(feed, evaluator)

    wait_until(lambda: evaluator.refreshes > 3)


def test_a_failure_is_said_and_tried_again(running: Start) -> None:
    feed = ScriptedFeed([OSError("away"), Step(1)])
    evaluator = CountingEvaluator(outcomes=[ValueError("bad")])

    follower = running(feed, evaluator)
    wait_until(lambda: evaluator.refreshes == 2)
    wait_until(lambda: follower.check() is None)

    state = follower.state()
    assert (state.is_well, state.failures, state.last_error) == (True, 0, "ValueError")


def test_what_another_evaluator_kept_it_from_is_made_up_for(running: Start) -> None:
    feed, evaluator = ScriptedFeed([Step(1)]), CountingEvaluator(outcomes=["busy", "behind"])

    follower = running(feed, evaluator)
    wait_until(lambda: follower.state().outcome == "refreshed")

    assert evaluator.refreshes == 3


def test_in_a_backlog_it_evaluates_once_the_feed_has_caught_up(running: Start) -> None:
    backlog: list[Step | Exception] = [Step(1, is_caught_up=False)] * 20
    feed, evaluator = ScriptedFeed([Step(), *backlog, Step(1)]), CountingEvaluator()

    running(feed, evaluator)
    wait_until(lambda: feed.steps > 25)

    assert evaluator.refreshes == 2


def test_a_stopped_follower_says_that_it_does_not_run() -> None:
    follower = Follower(ScriptedFeed(), CountingEvaluator())
    follower.start()
    assert follower.stop()

    assert follower.check() == "the follower does not run"
    assert follower.state().show()["running"] is False


def test_it_tells_its_state_after_every_round() -> None:
    told = threading.Event()
    follower = Follower(ScriptedFeed(), CountingEvaluator(), after_round=lambda _: told.set())
    follower.start()

    assert told.wait(60)
    assert follower.stop()


def publish_buyer(database: Database, name: str, at: datetime) -> None:
    """Commit one person and an order as the worker does."""
    with database.transaction() as connection:
        tx = driver(connection)
        batch = open_batch(tx)
        profile_id = f"prf_{name}"
        row = tx.execute(
            """INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen)
               VALUES ('user_id', %s, %s, 0, %s, %s) RETURNING node_id""",
            (name, profile_id, at, at),
        ).fetchone()
        assert row is not None
        (node,) = row
        tx.execute(
            "INSERT INTO node_profiles VALUES (%s, '-infinity', 'infinity', %s)", (node, node)
        )
        tx.execute(
            "INSERT INTO profiles (profile_no, profile_id) VALUES (%s, %s)", (node, profile_id)
        )
        tx.execute(
            """INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type,
                                   name, at, received_at, properties, context)
               VALUES (%s, 0, %s, 1, %s, 'track', 'Order Completed', %s, %s, '{}', '{}')""",
            (batch, node, f"m-{name}", at, at),
        )
        changes = BatchChanges(nodes={node}, moved_nodes={node}, profiles={node})
        close_batch(tx, batch, changes, events=1, received_until=at)


def count_members(database: Database, key: str) -> int:
    with database.transaction() as connection:
        row = (
            driver(connection)
            .execute("SELECT count(*) FROM memberships WHERE segment = %s", (key,))
            .fetchone()
        )
    assert row is not None
    return int(row[0])


def test_a_committed_batch_makes_its_people_members(database: Database, tmp_path: Path) -> None:
    engine = Engine(tmp_path / "analytics.duckdb")
    feed = Feed(database, engine)
    refresher = Refresher(database, engine, timezone="UTC", time_seconds=15)
    follower = Follower(feed, refresher)
    moment = datetime.now(UTC) - timedelta(minutes=1)
    with database.transaction() as connection:
        segments_store.create_segment(
            driver(connection), key="buyers", name="Buyers", description="",
            rule={"event": "Order Completed"}, consent=None, actor="test", now=NOON,
        )  # fmt: skip
    publish_buyer(database, "ann", moment)

    follower.start()
    try:
        wait_until(lambda: count_members(database, "buyers") == 1)
        publish_buyer(database, "bob", moment)
        wait_until(lambda: count_members(database, "buyers") == 2)
        assert follower.check() is None
    finally:
        assert follower.stop()
        feed.close()
        engine.close()
