"""Memberships follow events, time, merges and definitions; the ledger tells each change once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.analytics.engine import Engine
from cdp.segments import segments_store
from cdp.segments.membership_store import list_changes
from cdp.segments.refresh import Refresher
from cdp.segments.refresh_reached import Refreshed
from cdp.storage.database import Database, driver
from tests.support.people import NOON, People

BOUGHT = {"event": "Order Completed", "within": {"last": "30d"}}
DAY = timedelta(days=1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "analytics.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def people(database: Database, engine: Engine) -> People:
    return People(database, engine)


@pytest.fixture
def refresher(database: Database, engine: Engine) -> Refresher:
    return make_refresher(database, engine)


def make_refresher(database: Database, engine: Engine, **options: Any) -> Refresher:
    return Refresher(database, engine, timezone="UTC", time_seconds=15, **options)


def define(database: Database, key: str, rule: Any) -> None:
    with database.transaction() as connection:
        tx = driver(connection)
        common: dict[str, Any] = {
            "name": key, "description": "", "rule": rule, "consent": None, "actor": "test",
            "now": NOON,
        }  # fmt: skip
        if segments_store.update_segment(tx, key, **common) is None:
            segments_store.create_segment(tx, key=key, **common)


def changes(database: Database, key: str, after: int = 0) -> list[tuple[str, str, str]]:
    with database.transaction() as connection:
        rows = list_changes(driver(connection), key, after=after, limit=1000)
    return [(row.profile_id, row.change, row.cause) for row in rows]


def members(database: Database, key: str) -> set[str]:
    with database.transaction() as connection:
        rows = driver(connection).execute(
            "SELECT profile_id FROM memberships WHERE segment = %s", (key,)
        )
        return {row[0] for row in rows}


def mirrored(engine: Engine, key: str) -> set[str]:
    found = engine.read("SELECT profile_id FROM core.memberships WHERE segment = ?", [key])
    return set(found["profile_id"].to_pylist())


def later(days: float) -> datetime:
    return NOON + days * DAY


def test_a_new_segment_is_filled_with_cause_definition(
    database: Database, engine: Engine, people: People, refresher: Refresher
) -> None:
    ann, _ = people.add("ann"), people.add("bob")
    people.event(ann, "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)

    refresher.refresh(NOON)

    assert changes(database, "buyers") == [("prf_user_id_ann", "entered", "definition")]
    assert members(database, "buyers") == mirrored(engine, "buyers") == {"prf_user_id_ann"}


def test_an_event_lets_its_person_enter_with_cause_event(
    database: Database, engine: Engine, people: People, refresher: Refresher
) -> None:
    ann = people.add("ann")
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)

    people.event(ann, "Order Completed")
    people.publish()
    refresher.refresh(later(0.01))

    assert changes(database, "buyers") == [("prf_user_id_ann", "entered", "event")]


def test_an_event_lets_its_person_leave_a_segment_of_the_silent(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann = people.add("ann")
    people.publish()
    define(database, "silent", {"not": BOUGHT})
    refresher.refresh(NOON)

    people.event(ann, "Order Completed")
    people.publish()
    refresher.refresh(later(0.01))

    assert changes(database, "silent") == [
        ("prf_user_id_ann", "entered", "definition"),
        ("prf_user_id_ann", "left", "event"),
    ]


def test_time_alone_lets_a_person_leave_with_cause_time(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann = people.add("ann")
    people.event(ann, "Order Completed", NOON)
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)
    refresher.refresh(later(29.9))
    assert members(database, "buyers") == {"prf_user_id_ann"}

    refresher.refresh(later(30.01))

    assert changes(database, "buyers")[1:] == [("prf_user_id_ann", "left", "time")]


def test_an_event_dated_ahead_counts_when_its_time_has_come(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann = people.add("ann")
    define(database, "buyers", {"event": "Order Completed"})
    people.event(ann, "Order Completed", later(0.5), received_at=NOON)
    people.publish()
    refresher.refresh(NOON)
    assert members(database, "buyers") == set()

    refresher.refresh(later(0.6))

    assert changes(database, "buyers") == [("prf_user_id_ann", "entered", "time")]


def test_a_merge_moves_the_membership_from_the_absorbed_to_the_survivor(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann, device = people.add("ann"), people.add("d1", kind="anonymous_id")
    people.event(device, "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)

    people.merge(device, ann)
    people.publish()
    refresher.refresh(later(0.01))

    assert set(changes(database, "buyers")[1:]) == {
        ("prf_anonymous_id_d1", "left", "merge"),
        ("prf_user_id_ann", "entered", "merge"),
    }


def test_a_merge_that_makes_its_survivor_a_member_is_the_cause(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann, device = people.add("ann"), people.add("d1", kind="anonymous_id")
    people.event(ann, "Order Completed")
    people.event(device, "Order Completed")
    people.publish()
    define(database, "twice", {**BOUGHT, "count": {"op": "gte", "value": 2}})
    refresher.refresh(NOON)

    people.merge(device, ann)
    people.publish()
    refresher.refresh(later(0.01))

    assert changes(database, "twice") == [("prf_user_id_ann", "entered", "merge")]


def test_an_erased_person_leaves_with_cause_privacy(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann = people.add("ann")
    people.event(ann, "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)

    people.erase(ann)
    people.publish()
    refresher.refresh(later(0.01))

    assert changes(database, "buyers")[1:] == [("prf_user_id_ann", "left", "privacy")]


def test_a_new_definition_tells_only_the_difference(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann, bob = people.add("ann"), people.add("bob")
    people.event(ann, "Order Completed")
    people.event(ann, "Signed Up")
    people.event(bob, "Signed Up")
    people.publish()
    define(database, "chosen", {"event": "Order Completed"})
    refresher.refresh(NOON)

    define(database, "chosen", {"event": "Signed Up"})
    refresher.refresh(later(0.01))

    assert changes(database, "chosen")[1:] == [("prf_user_id_bob", "entered", "definition")]


def test_a_segment_on_a_segment_follows_in_the_same_refresh(
    database: Database, people: People, refresher: Refresher
) -> None:
    ann = people.add("ann")
    people.event(ann, "Order Completed", NOON)
    people.publish()
    define(database, "z_first", BOUGHT)
    define(database, "a_second", {"not": {"segment": "z_first"}})
    refresher.refresh(NOON)
    assert members(database, "a_second") == set()

    refresher.refresh(later(31))

    assert changes(database, "a_second") == [("prf_user_id_ann", "entered", "time")]


def test_refreshing_again_changes_nothing(
    database: Database, people: People, refresher: Refresher
) -> None:
    people.event(people.add("ann"), "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)

    assert refresher.refresh(later(1)).changes == 0
    assert refresher.refresh(later(2)).changes == 0


def test_changes_are_numbered_without_gaps_over_all_segments(
    database: Database, people: People, refresher: Refresher
) -> None:
    for name in ("ann", "bob", "eve"):
        people.event(people.add(name), "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    define(database, "silent", {"not": BOUGHT})
    refresher.refresh(NOON)
    refresher.refresh(later(31))

    with database.transaction() as connection:
        rows = driver(connection).execute(
            "SELECT change_no FROM membership_changes ORDER BY change_no"
        )
        assert [row[0] for row in rows] == list(range(1, 10))


class Died(BaseException):
    """Stands for kill -9: nothing after it runs."""


def test_a_death_between_the_two_commits_loses_and_repeats_nothing(
    database: Database, engine: Engine, people: People
) -> None:
    def die() -> None:
        raise Died

    people.event(people.add("ann"), "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    with pytest.raises(Died):
        make_refresher(database, engine, before_mirror_commit=die).refresh(NOON)
    assert members(database, "buyers") == {"prf_user_id_ann"}
    assert mirrored(engine, "buyers") == set()

    make_refresher(database, engine).refresh(later(0.01))

    assert mirrored(engine, "buyers") == {"prf_user_id_ann"}
    assert changes(database, "buyers") == [("prf_user_id_ann", "entered", "definition")]


@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_a_new_file_gets_its_mirror_from_the_ledger(
    database: Database,
    engine: Engine,
    people: People,
    refresher: Refresher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
) -> None:
    monkeypatch.setattr("cdp.segments.mirror_engine._CHANGES_AT_A_TIME", piece)
    people.event(people.add("ann"), "Order Completed", NOON)
    people.publish()
    define(database, "buyers", BOUGHT)
    define(database, "silent", {"not": BOUGHT})
    refresher.refresh(NOON)
    refresher.refresh(later(31))

    fresh = Engine(tmp_path / "other.duckdb")
    outcome = make_refresher(database, fresh).refresh(later(31.01)).outcome

    assert outcome == "behind"
    for key in ("buyers", "silent"):
        assert mirrored(fresh, key) == mirrored(engine, key) == members(database, key)
    columns = 'change_no, segment, profile_no, profile_id, change, "at", cause, version'
    ledger = f"SELECT {columns} FROM core.membership_changes ORDER BY change_no"
    assert fresh.read(ledger).equals(engine.read(ledger))
    fresh.close()


def test_a_node_that_is_behind_the_ledger_decides_nothing(
    database: Database, engine: Engine, people: People, refresher: Refresher, tmp_path: Path
) -> None:
    people.event(people.add("ann"), "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)

    lagging = Engine(tmp_path / "lagging.duckdb")
    make_refresher(database, lagging).refresh(later(0.01))

    assert members(database, "buyers") == {"prf_user_id_ann"}
    lagging.close()


def test_while_one_evaluates_another_stands_back(
    database: Database, engine: Engine, people: People, tmp_path: Path
) -> None:
    people.event(people.add("ann"), "Order Completed")
    people.publish()
    define(database, "buyers", BOUGHT)
    outcomes: list[str] = []
    other = Engine(tmp_path / "other.duckdb")
    rival = make_refresher(database, other)

    class Interrupting(Refresher):
        def _evaluate(self, *args: Any) -> Refreshed:
            outcomes.append(rival.refresh(NOON).outcome)
            return super()._evaluate(*args)

    Interrupting(database, engine, timezone="UTC", time_seconds=15).refresh(NOON)

    assert outcomes == ["busy"]
    assert len(changes(database, "buyers")) == 1
    other.close()


def test_a_rule_that_cannot_be_evaluated_stops_nobody_else(
    database: Database, people: People, refresher: Refresher
) -> None:
    people.event(people.add("ann"), "Order Completed")
    people.publish()
    define(database, "broken", {"no_such_form": 1})
    define(database, "buyers", BOUGHT)

    refresher.refresh(NOON)

    assert members(database, "buyers") == {"prf_user_id_ann"}
    assert {name.key for name in refresher.failing()} == {"broken"}


def test_a_repaired_rule_is_evaluated_at_once(
    database: Database, people: People, refresher: Refresher
) -> None:
    people.event(people.add("ann"), "Order Completed")
    people.publish()
    define(database, "broken", {"no_such_form": 1})
    refresher.refresh(NOON)

    define(database, "broken", BOUGHT)
    refresher.refresh(later(0.0001))

    assert members(database, "broken") == {"prf_user_id_ann"}
    assert refresher.failing() == frozenset()


def test_what_was_touched_while_nobody_refreshed_is_made_up_for(
    database: Database, engine: Engine, people: People, refresher: Refresher
) -> None:
    ann, bob = people.add("ann"), people.add("bob")
    people.publish()
    define(database, "buyers", BOUGHT)
    refresher.refresh(NOON)
    people.event(ann, "Order Completed")
    people.publish()
    people.event(bob, "Order Completed")
    people.publish()

    make_refresher(database, engine).refresh(later(0.01))

    assert {change[0::2] for change in changes(database, "buyers")} == {
        ("prf_user_id_ann", "event"),
        ("prf_user_id_bob", "event"),
    }


def test_a_refresh_knows_which_writes_are_in_it(people: People, refresher: Refresher) -> None:
    people.add("ann")
    seq = people.publish()
    assert refresher.positions("postgres") == {}

    refresher.refresh(NOON)

    assert refresher.positions("postgres") == {0: seq}
    assert refresher.as_of() == NOON
    assert refresher.wait_for(seq, 0)
