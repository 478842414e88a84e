"""Tags by SQL: checked when posted, run beside the evaluation, failing without losing values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

LOGINS = "select profile_id, count(*) as value from events group by profile_id"


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def post(served: Served, sql: str, **more: Any) -> Any:
    body = {"key": "t", "category": "behaviour", "definition": {"sql": sql}, **more}
    return served.client.post("/v1/tags", json=body)


def values(served: Served) -> dict[str, Any]:
    with served.database.transaction() as connection:
        rows = driver(connection).execute("SELECT profile_id, value FROM tag_values")
        return {name.removeprefix("prf_user_id_"): value for name, value in rows}


def follow(served: Served, seconds: float = 0) -> None:
    served.people.publish(now())
    served.refresher.refresh(now() + timedelta(seconds=seconds))


def test_values_are_there_at_once_and_follow_what_happens(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    served.people.event(ann, "Login", now())
    served.follow()

    tag = post(served, LOGINS).json()
    assert (tag["status"], tag["type"], tag["error"]) == ("ready", "number", None)
    assert values(served) == {"ann": 1}

    served.people.event(bob, "Login", now())
    follow(served, 60)
    assert values(served) == {"ann": 1, "bob": 1}
    changes = served.client.get("/v1/tags/t/changes").json()["data"]
    assert [row["cause"] for row in changes] == ["definition", "event"]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("select 1; select 2", "sql_refused"),
        ("delete from events", "sql_refused"),
        ("select profile_id, 1 as value from core.profiles", "sql_refused"),
        ("select * from read_csv('/etc/passwd')", "sql_refused"),
        ("select profile_id from profiles", "bad_columns"),
        ("select profile_id, 1 as value, 2 as more from profiles", "bad_columns"),
        ("select 1 as profile_id, 1 as value", "bad_columns"),
        ("select nothing, 1 as value from profiles", "sql_error"),
        ("select profile_id, $1 as value from profiles", "sql_refused"),
        ("selec", "sql_error"),
        ("", "bad_value"),
        ("select profile_id, profile_id as value from profiles", "wrong_type"),
    ],
)
def test_sql_that_can_give_no_values_is_refused(served: Served, sql: str, code: str) -> None:
    answer = post(served, sql, type="number")

    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code)
    assert document["details"]["path"] == "/definition/sql"


@pytest.mark.parametrize(
    ("sql", "type", "code"),
    [
        ("select profile_id, unnest([1, 2]) as value from profiles", "number", "sql_two_rows"),
        ("select 'nobody' as profile_id, 1 as value", "number", "sql_unknown_profile"),
        (
            "select profile_id, cast(profile_id as integer) as value from profiles",
            "number",
            "sql_failed",
        ),
        ("select profile_id, 'nan'::double as value from profiles", "number", "sql_wrong_type"),
        ("select profile_id, '[1]'::json as value from profiles", "object", "sql_wrong_type"),
    ],
)
def test_a_failing_query_is_told_and_the_values_stay(
    served: Served, sql: str, type: str, code: str
) -> None:
    served.people.add("ann")
    served.follow()
    good = {"number": "1", "object": "{'a': 1}"}[type]
    post(served, f"select profile_id, {good} as value from profiles", type=type)
    before = values(served)
    assert before

    changed = served.client.put("/v1/tags/t", json={"definition": {"sql": sql}}).json()

    assert (changed["status"], changed["error"]["code"]) == ("failing", code)
    assert (
        "prf_user_id_ann" not in changed["error"]["message"]
        or code == "sql_two_rows"
        or (code == "sql_wrong_type")
    )
    assert values(served) == before
    listed = served.client.get("/v1/tags").json()["data"]
    assert listed[0]["error"]["code"] == code


def test_others_go_on_and_a_failed_query_is_tried_again(served: Served) -> None:
    ann = served.people.add("ann")
    served.follow()
    post(served, "select profile_id, unnest(range(events)) as value from profiles")
    served.client.post("/v1/segments", json={"key": "s", "rule": {"event": "Login"}})
    sql = "select 'prf_user_id_' || (properties ->> '$.who') as profile_id, 1 as value from events"
    assert served.client.put("/v1/tags/t", json={"definition": {"sql": sql}}).json()["status"] == (
        "ready"
    )

    served.people.event(ann, "Login", now(), {"who": "eve"})
    follow(served, 10)
    assert served.client.get("/v1/tags/t").json()["error"]["code"] == "sql_unknown_profile"
    assert [row["change"] for row in served.changes("s")] == ["entered"]

    served.people.add("eve")
    follow(served, 200)
    assert served.client.get("/v1/tags/t").json()["status"] == "ready"
    assert values(served) == {"eve": 1}


def test_whoever_is_gone_loses_the_value_before_the_query_runs_again(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    served.follow()
    post(served, "select profile_id, 1 as value from profiles")

    served.people.merge(ann, bob)
    served.people.publish(now())
    served.refresher.refresh(now())

    assert values(served) == {"bob": 1}
    last = served.client.get("/v1/tags/t/changes").json()["data"][-1]
    assert (last["profile_id"], last["value"], last["cause"]) == ("prf_user_id_ann", None, "merge")


def test_a_query_over_memberships_follows_them(served: Served) -> None:
    ann = served.people.add("ann")
    served.follow()
    served.client.post("/v1/segments", json={"key": "s", "rule": {"event": "Login"}})
    post(served, "select profile_id, true as value from memberships where segment = 's'")
    assert values(served) == {}

    served.people.event(ann, "Login", now())
    follow(served, 60)
    follow(served, 120)

    assert values(served) == {"ann": True}


def test_times_are_written_like_all_others(served: Served) -> None:
    served.people.add("ann")
    served.follow()

    tag = post(served, "select profile_id, '2026-03-01 08:00:00+08'::timestamptz as value "
                       "from profiles").json()  # fmt: skip

    assert tag["type"] == "time"
    assert values(served) == {"ann": "2026-03-01T00:00:00.000Z"}
