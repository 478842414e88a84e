"""Moves between tiers wait until the new one has held, and come true though nothing happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.segments.refresh import Refresher
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CASES = {
    "cases": [
        {"when": {"trait": "points", "op": "gte", "value": 100}, "then": "high"},
        {"when": {"trait": "points", "op": "gte", "value": 10}, "then": "middle"},
    ],
    "else": "low",
}
RULES = {"order": ["low", "middle", "high"], "up": {"hold": "7d"}, "down": {"hold": "30d"}}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


class Shop:
    """People with points; the clock is turned by hand."""

    def __init__(self, served: Served, definition: Any = None, type: str = "text") -> None:
        self.served = served
        self.refresher: Refresher = served.refresher
        self.ann = served.people.add("ann")
        self.points(0, 0)
        answer = served.client.post(
            "/v1/tags",
            json={"key": "t", "type": type, "definition": definition or CASES | {
                "transitions": RULES}},
        )  # fmt: skip
        assert answer.status_code == 201, answer.text

    def points(self, days: float, points: int, *, of: int | None = None) -> Any:
        self.served.people.trait(of or self.ann, "points", points, START)
        self.served.people.publish(START + days * DAY)
        return self.pass_to(days)

    def pass_to(self, days: float) -> Any:
        self.refresher.refresh(START + days * DAY)
        return self.values().get("prf_user_id_ann")

    def values(self) -> dict[str, Any]:
        with self.served.database.transaction() as connection:
            rows = driver(connection).execute("SELECT profile_id, value FROM tag_values")
            return dict(rows.fetchall())

    def waiting(self) -> list[Any]:
        with self.served.database.transaction() as connection:
            rows = driver(connection).execute("SELECT level FROM tag_moves ORDER BY level")
            return [level.strip('"') for (level,) in rows]


def test_a_tier_is_reached_when_it_has_held_though_nothing_happens(served: Served) -> None:
    shop = Shop(served)

    assert shop.points(1, 50) == "low"
    assert shop.pass_to(7.9) == "low"
    assert shop.pass_to(8) == "middle"

    last = served.client.get("/v1/tags/t/changes").json()["data"][-1]
    assert (last["from"], last["to"], last["cause"]) == ("low", "middle", "time")
    assert last["reason"] == "low → middle"
    assert shop.waiting() == []


def test_whoever_falls_back_meanwhile_does_not_move(served: Served) -> None:
    shop = Shop(served)

    shop.points(1, 50)
    shop.points(5, 0)
    assert shop.pass_to(9) == "low"
    shop.points(9, 50)
    assert shop.pass_to(12) == "low"
    assert shop.pass_to(16) == "middle"


def test_each_tier_on_the_way_has_a_time_of_its_own(served: Served) -> None:
    shop = Shop(served)

    shop.points(1, 50)
    assert shop.points(6, 500) == "low"
    assert shop.waiting() == ["high", "middle"]
    assert shop.pass_to(8) == "middle"
    assert shop.pass_to(12.9) == "middle"
    assert shop.pass_to(13) == "high"


def test_down_has_a_hold_of_its_own(served: Served) -> None:
    shop = Shop(served)
    shop.points(1, 500)
    assert shop.pass_to(8) == "high"

    assert shop.points(10, 0) == "high"
    assert shop.pass_to(39) == "high"
    assert shop.pass_to(40) == "low"


def test_without_a_hold_a_move_is_immediate(served: Served) -> None:
    rules = {"order": ["low", "middle", "high"], "down": {"hold": "30d"}}
    shop = Shop(served, CASES | {"transitions": rules})

    assert shop.points(1, 500) == "high"
    assert shop.points(2, 50) == "high"


def test_a_move_goes_on_waiting_in_another_process(served: Served, tmp_path: Path) -> None:
    shop = Shop(served)
    shop.points(1, 50)

    shop.refresher = Refresher(served.database, served.engine, timezone="UTC", time_seconds=1)

    assert shop.pass_to(7.9) == "low"
    assert shop.refresher.is_time_due(START + 8 * DAY)
    assert shop.pass_to(8) == "middle"


def test_a_new_definition_is_followed_at_once(served: Served) -> None:
    shop = Shop(served)
    shop.points(1, 50)

    with served.database.transaction() as connection:
        driver(connection).execute(
            "UPDATE tags SET version = version + 1, updated_at = now() WHERE key = 't'"
        )

    assert shop.pass_to(2) == "middle"
    assert shop.waiting() == []


def test_who_is_absorbed_waits_no_longer_and_the_survivor_goes_on(served: Served) -> None:
    shop = Shop(served)
    bob = served.people.add("bob")
    shop.points(1, 50, of=bob)
    shop.points(2, 50)

    served.people.merge(bob, shop.ann)
    shop.points(3, 50)

    assert shop.waiting() == ["middle"]
    assert shop.pass_to(9) == "middle"
    assert list(shop.values()) == ["prf_user_id_ann"]


def test_what_is_kept_equals_a_full_evaluation_while_somebody_waits(served: Served) -> None:
    shop = Shop(served)
    shop.points(1, 50)

    checked = shop.refresher.check(lambda: START + 2 * DAY, seconds=5)

    assert [one.is_right for one in checked] == [True]
    assert shop.waiting() == ["middle"]


def test_a_built_in_keeps_its_figures_while_its_tier_waits(served: Served) -> None:
    tiers = [{"name": "gold", "min": 1000}, {"name": "basic"}]
    shop = Shop(
        served,
        {
            "builtin": "value_tier",
            "settings": {"tiers": tiers},
            "transitions": {"up": {"hold": "7d"}},
        },
    )
    served.people.order(shop.ann, START, 100)
    served.people.publish(START)
    assert shop.pass_to(1)["tier"] == "basic"

    served.people.order(shop.ann, START, 5000)
    served.people.publish(START)
    assert shop.pass_to(2) == {"revenue": 5100, "orders": 2, "tier": "basic"}
    assert shop.pass_to(8)["tier"] == "basic"
    assert shop.pass_to(9)["tier"] == "gold"
    last = served.client.get("/v1/tags/t/changes").json()["data"][-1]
    assert (last["from"]["tier"], last["cause"]) == ("basic", "time")


def test_sql_is_held_back_too(served: Served) -> None:
    sql = """select profile_id, case when value::integer >= 10 then 'middle' else 'low' end as value
               from traits where name = 'points'"""
    shop = Shop(served, {"sql": sql, "transitions": RULES})

    assert shop.points(1, 50) == "low"
    assert shop.waiting() == ["middle"]
    assert shop.points(3, 60) == "low"
    assert shop.pass_to(8) == "middle"


@pytest.mark.parametrize(
    ("rules", "code", "path"),
    [
        ({"order": ["low"]}, "bad_value", "/order"),
        ({}, "missing_part", "/order"),
        ({"order": ["low", "low"]}, "bad_value", "/order/1"),
        ({"order": ["low", "top"]}, "unknown_level", "/order/1"),
        ({"order": ["low", "high"], "up": {"hold": "soon"}}, "bad_value", "/up/hold"),
        ({"order": ["low", "high"], "up": "7d"}, "bad_value", "/up"),
        ({"order": ["low", "high"], "field": "x"}, "bad_value", "/field"),
        ({"order": ["low", "high"], "left": 1}, "unknown_key", ""),
    ],
)
def test_wrong_transitions_are_refused_at_their_place(
    served: Served, rules: Any, code: str, path: str
) -> None:
    answer = served.client.post(
        "/v1/tags",
        json={"key": "x", "type": "text", "definition": CASES | {"transitions": rules}},
    )

    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code)
    assert document["details"]["path"] == f"/definition/transitions{path}"
