"""Tag values as they were, pulled as a whole, by day; the standard set; unchanged pulls."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pa_parquet
import pytest

from cdp.profiles.tag_values_store import read_tag_values
from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

NAMES = ("ann", "bob", "eve")
PRO = {"cases": [{"when": {"trait": "plan", "op": "eq", "value": "pro"}, "then": "=pro"}]}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def make_tag(served: Served) -> list[int]:
    people = [served.people.add(name) for name in NAMES]
    for number in people:
        served.people.trait(number, "plan", "pro")
    served.follow()
    body = {"key": "t", "type": "text", "definition": PRO}
    assert served.client.post("/v1/tags", json=body).status_code == 201
    return people


def get(served: Served, path: str, **params: Any) -> Any:
    answer = served.client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_pull_of_values_shows_one_moment_from_first_to_last_page(served: Served) -> None:
    people = make_tag(served)
    first = get(served, "/v1/tags/t/values", limit=1)

    served.people.trait(people[2], "plan", "free")
    served.people.add("dan")
    served.follow()
    rest = get(served, "/v1/tags/t/values", limit=10, cursor=first["next"])

    rows = first["data"] + rest["data"]
    assert [row["profile_id"] for row in rows] == [f"prf_user_id_{name}" for name in NAMES]
    assert {row["value"] for row in rows} == {"=pro"}
    assert rest["next"] is None
    assert len(get(served, "/v1/tags/t/values")["data"]) == 2


def test_values_come_as_files(served: Served) -> None:
    make_tag(served)

    text = served.client.get("/v1/tags/t/values", params={"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["value"] for row in rows] == ["'=pro"] * 3

    lines = served.client.get("/v1/tags/t/values", params={"format": "ndjson"}).text
    assert lines.count("\n") == 3

    file = served.client.get("/v1/tags/t/values", params={"format": "parquet"}).content
    table = pa_parquet.read_table(io.BytesIO(file))
    assert table["value"].to_pylist() == ["=pro"] * 3


def test_the_spread_is_told_by_day(served: Served) -> None:
    people = make_tag(served)
    served.people.trait(people[0], "plan", "free")
    served.follow()

    days = get(served, "/v1/tags/t/history")["data"]

    assert [day["values"] for day in days] == [[{"value": "=pro", "count": 2}]]


def test_a_persons_values_are_told_as_they_were(served: Served) -> None:
    people = make_tag(served)
    then = now().isoformat()
    served.people.trait(people[0], "plan", "free")
    served.follow()

    with served.database.transaction() as connection:
        tx = driver(connection)
        assert read_tag_values(tx, "prf_user_id_ann", None, is_masked=False) == []
        assert [
            row["value"] for row in read_tag_values(tx, "prf_user_id_ann", then, is_masked=False)
        ] == ["=pro"]
        assert read_tag_values(tx, "prf_user_id_ann", "2020-01-01T00:00:00Z", is_masked=False) == []


def test_changes_say_from_what_to_what(served: Served) -> None:
    people = make_tag(served)
    served.people.trait(people[0], "plan", "free")
    served.follow()

    last = get(served, "/v1/tags/t/changes")["data"][-1]

    assert (last["from"], last["to"], last["value"]) == ("=pro", None, None)


def test_the_standard_set_leaves_what_is_there(served: Served) -> None:
    make_tag(served)
    body = {"key": "rfm", "type": "text", "definition": PRO}
    served.client.post("/v1/tags", json=body)

    answer = served.client.post("/v1/tags/standard").json()

    assert answer["skipped"] == ["rfm"]
    assert set(answer["created"]) >= {"value_tier", "clv", "churn_risk", "health", "nps"}
    assert get(served, "/v1/tags/rfm")["type"] == "text"
    states = {row["key"]: row["status"] for row in get(served, "/v1/tags", limit=100)["data"]}
    assert set(states.values()) <= {"ready", "not_enough_data"}
    listed = get(served, "/v1/tags", category="sentiment")["data"]
    assert {row["key"] for row in listed} == {"nps", "sentiment"}
    assert served.client.post("/v1/tags/standard").json()["created"] == []


def test_an_unchanged_pull_is_304_until_somebody_enters(served: Served) -> None:
    make_tag(served)
    served.client.post("/v1/segments", json={"key": "s", "rule": {"event": "Login"}})
    path = "/v1/segments/s/members"
    state = served.client.get(path).headers["etag"]

    served.people.trait(served.people.add("dan"), "plan", "pro")
    served.follow()
    assert served.client.get(path, headers={"If-None-Match": state}).status_code == 304

    served.people.event(served.people.add("zoe"), "Login", now())
    served.follow()
    answer = served.client.get(path, headers={"If-None-Match": state})
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1)


def test_a_segment_that_is_deleted_while_it_is_pulled_has_a_name_for_it(served: Served) -> None:
    for name in NAMES:
        served.people.event(served.people.add(name), "Login", now())
    served.follow()
    body = {"key": "s", "rule": {"event": "Login"}}
    served.client.post("/v1/segments", json=body)
    path = "/v1/segments/s/members"
    cursor = served.client.get(path, params={"limit": 1}).json()["next"]

    served.client.delete("/v1/segments/s")
    gone = served.client.get(path, params={"cursor": cursor})
    served.client.post("/v1/segments", json=body)
    outdated = served.client.get(path, params={"cursor": cursor})

    assert (gone.status_code, gone.json()["code"]) == (404, "segment_not_found")
    assert (outdated.status_code, outdated.json()["code"]) == (409, "pull_outdated")
