"""Whatever happens in whatever order: evaluated piece by piece equals evaluated at once, and the
ledger of changes replays to the members."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.analytics.engine import Engine
from cdp.runtime.clock import format_time
from cdp.segments import segments_store, tags_store
from cdp.segments.refresh import Refresher
from cdp.storage.database import Database, driver
from tests.support.people import NOON, People
from tests.support.postgres import PostgresServer

RULES: dict[str, Any] = {
    "bought": {"event": "A", "within": {"last": "10d"}},
    "often": {"event": "A", "count": {"op": "gte", "value": 2}},
    "silent": {"not": {"segment": "bought"}},
    "pro": {"trait": "plan", "op": "eq", "value": "pro"},
    "month": {"event": "A", "within": {"last": "1mo"}},
    "today": {"event": "A", "within": {"calendar": "day", "tz": "Asia/Shanghai"}},
    "idle": {"event": "A", "aggregate": {"fn": "days_since_last"}, "op": "gte", "value": 2.5},
    "third": {"event": "A", "aggregate": {"fn": "days_since_first"}, "op": "eq", "value": 3},
    "twice": {"sequence": [{"event": "A"}, {"event": "A"}], "within": {"last": "5d"}},
    "later": {"trait": "until", "op": "not_within_last", "value": "2d"},
    "lately": {"trait": "until", "op": "within_last", "value": "1mo"},
    "nested": {"trait": "plans.ends", "op": "within_last", "value": "1d"},
    "aged": {"tag": "days", "op": "gte", "value": 2},
    "seen_days": {"tag": "first", "op": "between", "value": [1, 4]},
    "tagged": {"tag": "promised", "op": "not_within_last", "value": "36h"},
    "both": {"all": [{"segment": "pro"}, {"any": [{"segment": "bought"}, {"segment": "often"}]}]},
}
ELAPSED = {"event": "A", "aggregate": {"fn": "days_since_last"}}
TAGS: dict[str, Any] = {
    "days": {"aggregate": ELAPSED},
    "first": {"aggregate": {**ELAPSED, "aggregate": {"fn": "days_since_first"}}},
    "promised": {"aggregate": {"event": "A", "aggregate": {"fn": "last", "property": "until"}}},
}
PEOPLE = 4

numbers = st.integers(0, PEOPLE - 1)
actions = st.one_of(
    st.tuples(st.just("event"), numbers, st.integers(-12, 2)),
    st.tuples(st.just("trait"), numbers, st.sampled_from(["pro", "free", None])),
    st.tuples(st.just("until"), numbers, st.integers(-3, 3)),
    st.tuples(st.just("plans"), numbers, st.lists(st.integers(-2, 2), max_size=3)),
    st.tuples(st.just("merge"), numbers, numbers),
    st.tuples(st.just("erase"), numbers),
    st.tuples(st.just("publish")),
    st.tuples(st.just("refresh")),
    st.tuples(st.just("pass"), st.integers(1, 6 * 24)),
    st.tuples(st.just("redefine"), st.sampled_from(["pro", "often"])),
)


@pytest.fixture
def databases(postgres_server: PostgresServer) -> Any:
    return postgres_server.fresh_url


class World:
    """People, a clock turned by hand, and a refresher that follows them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.engine = Engine(folder / "a.duckdb")
        self.people = People(database, self.engine)
        self.refresher = Refresher(database, self.engine, timezone="UTC", time_seconds=1)
        self.now = NOON
        self.nodes: list[int | None] = [self.people.add(f"p{index}") for index in range(PEOPLE)]
        for key, definition in TAGS.items():
            self.define_tag(key, definition)
        for key, rule in RULES.items():
            self.define(key, rule)

    def define(self, key: str, rule: Any) -> None:
        with self.database.transaction() as connection:
            tx = driver(connection)
            common: dict[str, Any] = {
                "name": key, "description": "", "rule": rule, "consent": None, "actor": "t",
                "now": NOON,
            }  # fmt: skip
            if segments_store.update_segment(tx, key, **common) is None:
                segments_store.create_segment(tx, key=key, **common)

    def define_tag(self, key: str, definition: Any) -> None:
        with self.database.transaction() as connection:
            tags_store.create_tag(
                driver(connection), key=key, name=key, category="basic", type="number",
                document=definition, now=NOON,
            )  # fmt: skip

    def act(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("event", index, days) if self.nodes[index] is not None:
                at = self.now + timedelta(days=days)
                told = {"until": format_time(at + timedelta(days=2))}
                self.people.event(self.nodes[index], "A", at, told, received_at=self.now)  # type: ignore[arg-type]
            case ("trait", index, value) if self.nodes[index] is not None:
                self.people.trait(self.nodes[index], "plan", value, self.now)  # type: ignore[arg-type]
            case ("until", index, days) if self.nodes[index] is not None:
                until = format_time(self.now + timedelta(days=days))
                self.people.trait(self.nodes[index], "until", until, self.now)  # type: ignore[arg-type]
            case ("plans", index, ends) if self.nodes[index] is not None:
                plans = [{"ends": format_time(self.now + timedelta(days=one))} for one in ends]
                self.people.trait(self.nodes[index], "plans", plans, self.now)  # type: ignore[arg-type]
            case ("merge", one, other) if None not in (self.nodes[one], self.nodes[other]):
                into = self.people.owner(self.nodes[one])  # type: ignore[arg-type]
                absorbed = self.people.owner(self.nodes[other])  # type: ignore[arg-type]
                if into != absorbed:
                    self.people.merge(absorbed, into)
            case ("erase", index) if self.nodes[index] is not None:
                owner = self.people.owner(self.nodes[index])  # type: ignore[arg-type]
                gone = {
                    i for i, node in enumerate(self.nodes)
                    if node is not None and self.people.owner(node) == owner
                }  # fmt: skip
                self.people.erase(owner)
                self.nodes = [None if i in gone else node for i, node in enumerate(self.nodes)]
            case ("publish",):
                self.people.publish()
            case ("refresh",):
                self.refresher.refresh(self.now)
            case ("pass", hours):
                self.now += timedelta(hours=hours)
            case ("redefine", key):
                self.define(key, RULES["bought"] if key == "pro" else {"not": RULES["pro"]})

    def members(self) -> dict[str, set[int]]:
        """Return who is in which segment by the ledger; the mirror must say the same."""
        with self.database.transaction() as connection:
            rows = driver(connection).execute("SELECT segment, profile_no FROM memberships")
            stored = {(segment, number) for segment, number in rows}
        mirrored = self.engine.read("SELECT segment, profile_no FROM core.memberships").to_pylist()
        assert {(row["segment"], row["profile_no"]) for row in mirrored} == stored
        return {key: {number for s, number in stored if s == key} for key in RULES}

    def replay(self) -> dict[str, set[int]]:
        """Return the members by the changes alone; nobody may enter twice or leave unentered."""
        found: dict[str, set[int]] = {key: set() for key in RULES}
        with self.database.transaction() as connection:
            rows = driver(connection).execute(
                "SELECT segment, profile_no, change FROM membership_changes ORDER BY change_no"
            )
            for segment, number, change in rows:
                assert (number in found[segment]) == (change == "left")
                found[segment] ^= {number}
        return found


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(actions, min_size=4, max_size=14))
def test_piece_by_piece_equals_at_once(databases: Any, script: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, databases() as url:
        database = Database(url)
        world = World(database, Path(folder))
        try:
            for action in script:
                world.act(action)
            world.people.publish()
            world.refresher.refresh(world.now)
            followed = world.members()
            assert world.replay() == followed

            evaluate_everything(world, world.now)
            assert world.members() == followed
        finally:
            world.engine.close()
            database.close()


def evaluate_everything(world: World, now: datetime) -> None:
    """Evaluate every segment for everybody, whatever was evaluated before."""
    with world.database.transaction() as connection:
        driver(connection).execute("UPDATE segments SET evaluated_version = 0")
        driver(connection).execute("UPDATE tags SET evaluated_version = 0")
    world.refresher.refresh(now)
