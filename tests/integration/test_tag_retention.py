"""What retention leaves of the history of tag values, at its edge and around it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.errors import Unprocessable
from cdp.profiles.tag_values_store import read_tag_values
from cdp.runtime.clock import now
from cdp.segments import mirror_engine
from cdp.segments.tag_retention_store import drop_tag_history_before
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

ANN, BOB, EVE = "prf_user_id_ann", "prf_user_id_bob", "prf_user_id_eve"
PLAN = {
    "cases": [
        {"when": {"trait": "plan", "op": "eq", "value": plan}, "then": plan}
        for plan in ("pro", "gold")
    ]
}
FIRST = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    """Ann pro, Bob pro, Eve pro, Ann gold, Bob nothing, Ann pro: change by change, one a day."""
    with serve_segments(database, tmp_path) as found:
        people = {}
        for name in ("ann", "bob", "eve"):
            people[name] = found.people.add(name)
            found.people.trait(people[name], "plan", "pro")
        found.follow()
        body = {"key": "t", "type": "text", "definition": PLAN}
        assert found.client.post("/v1/tags", json=body).status_code == 201
        for name, plan in (("ann", "gold"), ("bob", "free"), ("ann", "pro")):
            found.people.trait(people[name], "plan", plan)
            found.follow()
        with database.transaction() as connection:
            driver(connection).execute(
                "UPDATE tag_changes SET at = %s + (change_no - 1) * interval '1 day'", (FIRST,)
            )
        assert [row[0] for row in list_kept(found)] == [1, 2, 3, 4, 5, 6]
        yield found


def list_kept(served: Served) -> list[tuple[Any, ...]]:
    with served.database.transaction() as connection:
        return (
            driver(connection)
            .execute("SELECT change_no, profile_id, value FROM tag_changes ORDER BY change_no")
            .fetchall()
        )


def drop(served: Served, before: datetime, most: int = 100) -> int:
    return sum(drop_tag_history_before(served.database, before, most))


def read_at(served: Served, profile_id: str, at: datetime) -> list[Any]:
    with served.database.transaction() as connection:
        rows = read_tag_values(driver(connection), profile_id, at.isoformat(), is_masked=False)
    return [row["value"] for row in rows]


def read_mirror(served: Served) -> list[Any]:
    sql = "SELECT key, profile_id, value::VARCHAR AS value FROM core.tag_values ORDER BY ALL"
    return served.engine.read(sql).to_pylist()


def follow(served: Served, **params: Any) -> tuple[list[Any], Any]:
    """Read changes to their end."""
    told: list[Any] = []
    while True:
        answer = served.client.get("/v1/tags/t/changes", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        told += [(row["profile_id"], row["from"], row["to"]) for row in page["data"]]
        params["since"] = page["next"]
        if not page["data"]:
            return told, page


# The sixth change closes Ann's gold at FIRST + 5 days.
@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (FIRST + 3 * DAY, [1, 2, 3, 4, 5, 6]),
        (FIRST + 3 * DAY + MILLISECOND, [2, 3, 4, 5, 6]),
        (FIRST + 5 * DAY, [3, 4, 6]),
        (FIRST + 5 * DAY + MILLISECOND, [3, 6]),
        (FIRST + 500 * DAY, [3, 6]),
    ],
    ids=["closed just then", "closed before", "gone and one open", "open closed", "all"],
)
def test_what_was_closed_before_goes_and_what_held_then_stays(
    served: Served, before: datetime, kept: list[int]
) -> None:
    assert drop(served, before) == 6 - len(kept)

    assert [row[0] for row in list_kept(served)] == kept
    assert drop(served, before) == 0


def test_pieces_are_bounded_and_leave_the_same(served: Served) -> None:
    # Two changes a piece, one closed value each: Ann's pro; Bob's pro and that it is gone.
    assert list(drop_tag_history_before(served.database, FIRST + 5 * DAY, 2)) == [0, 1, 2]
    assert [row[0] for row in list_kept(served)] == [3, 4, 6]


def test_values_are_known_from_the_horizon_on_and_not_before_it(served: Served) -> None:
    edge = FIRST + 5 * DAY
    before = [read_at(served, who, edge) for who in (ANN, BOB, EVE)]
    drop(served, edge)

    assert [read_at(served, who, edge) for who in (ANN, BOB, EVE)] == before
    assert before == [["pro"], [], ["pro"]]
    for moment in (edge - MILLISECOND, FIRST):
        with pytest.raises(Unprocessable) as refused:
            read_at(served, ANN, moment)
        assert refused.value.code == "not_kept"
        assert refused.value.details == {"path": "/at", "known_from": "2026-01-06T12:00:00.000Z"}


def test_while_nothing_was_closed_all_is_known(served: Served) -> None:
    drop(served, FIRST + 2 * DAY)

    assert read_at(served, ANN, FIRST) == ["pro"]
    assert "known_from" not in served.client.get("/v1/tags/t/changes").json()


def test_a_cursor_from_before_the_horizon_is_expired_and_one_at_it_goes_on(served: Served) -> None:
    pages = [
        served.client.get("/v1/tags/t/changes", params={"limit": limit}).json()["next"]
        for limit in (4, 5, 100)
    ]
    drop(served, FIRST + 5 * DAY)

    expired = served.client.get("/v1/tags/t/changes", params={"since": pages[0]})
    assert (expired.status_code, expired.json()["code"]) == (410, "cursor_expired")
    assert follow(served, since=pages[1])[0] == [(ANN, "gold", "pro")]
    assert follow(served, since=pages[2])[0] == []


@pytest.mark.parametrize("limit", [1, 100])
def test_who_begins_is_told_what_holds_and_then_every_change(served: Served, limit: int) -> None:
    drop(served, FIRST + 5 * DAY)

    told, last = follow(served, limit=limit)

    assert told == [(EVE, None, "pro"), (ANN, None, "gold"), (ANN, "gold", "pro")]
    assert last["known_from"] == "2026-01-06T12:00:00.000Z"


def test_who_is_overtaken_while_beginning_begins_anew(served: Served) -> None:
    drop(served, FIRST + 4 * DAY)
    following = served.client.get("/v1/tags/t/changes", params={"limit": 1}).json()["next"]
    drop(served, FIRST + 5 * DAY)

    answer = served.client.get("/v1/tags/t/changes", params={"since": following})

    assert answer.status_code == 410


def test_a_reader_of_a_tag_that_rests_is_not_left_behind(served: Served) -> None:
    resting = {"key": "resting", "type": "text", "definition": {"manual": True}}
    served.client.post("/v1/tags", json=resting)
    following = served.client.get("/v1/tags/resting/changes").json()["next"]
    drop(served, FIRST + 500 * DAY)

    answer = served.client.get("/v1/tags/resting/changes", params={"since": following})

    assert (answer.status_code, answer.json()["data"]) == (200, [])


def test_the_spread_begins_on_the_day_of_the_horizon(served: Served) -> None:
    days = served.client.get("/v1/tags/t/history").json()["data"]
    drop(served, FIRST + 4 * DAY + MILLISECOND)

    kept = served.client.get("/v1/tags/t/history").json()

    assert [day["day"] for day in days][-2:] == ["2026-01-05", "2026-01-06"]
    assert kept["data"] == days[-2:]
    assert kept["known_from"] == "2026-01-05T12:00:00.001Z"


def test_a_pull_from_before_the_horizon_is_outdated(served: Served) -> None:
    first = served.client.get("/v1/tags/t/values", params={"limit": 1}).json()
    with served.database.transaction() as connection:
        driver(connection).execute("UPDATE tag_changes SET at = at - interval '1 day'")
    drop(served, FIRST + 500 * DAY)
    served.people.trait(served.people.add("dan"), "plan", "pro")
    served.follow()
    with served.database.transaction() as connection:
        driver(connection).execute("UPDATE tag_changes SET at = %s", (FIRST,))
    drop(served, FIRST + 500 * DAY)

    answer = served.client.get("/v1/tags/t/values", params={"cursor": first["next"]})

    assert (answer.status_code, answer.json()["code"]) == (409, "pull_outdated")


@pytest.mark.parametrize("reached", [0, 2, 6])
def test_the_mirror_is_the_same_however_far_it_had_come(served: Served, reached: int) -> None:
    mirrored = read_mirror(served)
    drop(served, FIRST + 500 * DAY)
    with served.engine.write() as duck:
        if reached == 0:
            mirror_engine.clear(duck)
        if reached == 2:
            duck.execute("UPDATE core.ledger_mirror SET change_no = 2")
            duck.execute(
                """INSERT INTO core.tag_values (key, profile_no, profile_id, value, "at", version)
                   SELECT 't', profile_no, profile_id, '"pro"', now(), 1 FROM core.profiles
                    WHERE profile_id = $bob""",
                {"bob": BOB},
            )

    served.refresher.refresh(now())

    assert read_mirror(served) == mirrored
    assert {row["profile_id"] for row in mirrored} == {ANN, EVE}


def test_what_was_set_by_hand_still_holds(served: Served) -> None:
    made = {"key": "by_hand", "type": "text", "definition": {"manual": True}}
    assert served.client.post("/v1/tags", json=made).status_code == 201
    for value in ("a", "b"):
        eve = {"type": "user_id", "value": "eve"}
        body = {"values": [{"identifier": eve, "value": value}]}
        assert served.client.put("/v1/tags/by_hand/values", json=body).status_code == 200
        served.follow()
    drop(served, now() + DAY)

    rows = served.client.get("/v1/tags/by_hand/values").json()["data"]
    with served.database.transaction() as connection:
        by_hand = driver(connection).execute("SELECT value FROM manual_tag_values").fetchall()

    assert [(row["profile_id"], row["value"]) for row in rows] == [(EVE, "b")]
    assert by_hand == [("b",)]
