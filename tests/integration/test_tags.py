"""Tags over HTTP: computed values follow what happens, values by hand follow their identifier."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

HOUR = timedelta(hours=1)
SPENT = {
    "event": "Order Completed",
    "aggregate": {"fn": "sum", "property": "total"},
}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def create(served: Served, key: str, definition: Any, *, type: str = "number") -> dict[str, Any]:
    answer = served.client.post(
        "/v1/tags",
        json={"key": key, "category": "value", "type": type, "definition": definition},
    )
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def buy(served: Served, number: int, total: float) -> None:
    served.people.event(number, "Order Completed", now() - HOUR, {"total": total})


def values(served: Served, database: Database, key: str) -> dict[str, Any]:
    """Return the values in Postgres, having checked that DuckDB has the same."""
    with database.transaction() as connection:
        rows = driver(connection).execute(
            "SELECT profile_id, value FROM tag_values WHERE key = %s", (key,)
        )
        stored = dict(rows.fetchall())
    mirrored = served.engine.read("SELECT profile_id FROM core.tag_values WHERE key = ?", [key])
    assert set(mirrored["profile_id"].to_pylist()) == set(stored)
    return stored


def refusal(answer: Any) -> tuple[int, str, Any]:
    document = answer.json()
    return answer.status_code, document["code"], document["details"].get("path")


def test_an_aggregate_is_computed_at_once_and_follows_each_event(
    served: Served, database: Database
) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    buy(served, ann, 100)
    served.follow()

    tag = create(served, "spent", {"aggregate": SPENT})
    assert (tag["status"], tag["count"]) == ("ready", 1)
    assert values(served, database, "spent") == {"prf_user_id_ann": 100}

    buy(served, ann, 20.5)
    buy(served, bob, 7)
    served.follow()

    assert values(served, database, "spent") == {
        "prf_user_id_ann": 120.5,
        "prf_user_id_bob": 7,
    }


def test_the_first_case_that_holds_gives_the_value(served: Served, database: Database) -> None:
    ann, bob, _ = (served.people.add(name) for name in ("ann", "bob", "eve"))
    served.people.trait(ann, "plan", "pro")
    served.people.event(ann, "Signed Up", now() - HOUR)
    served.people.event(bob, "Signed Up", now() - HOUR)
    served.follow()
    cases = [
        {"when": {"trait": "plan", "op": "eq", "value": "pro"}, "then": "customer"},
        {"when": {"event": "Signed Up"}, "then": "lead"},
    ]

    create(served, "stage", {"cases": cases}, type="text")
    assert values(served, database, "stage") == {
        "prf_user_id_ann": "customer",
        "prf_user_id_bob": "lead",
    }

    served.client.put("/v1/tags/stage", json={"definition": {"cases": cases, "else": "stranger"}})
    assert values(served, database, "stage")["prf_user_id_eve"] == "stranger"
    served.people.add("dan")
    served.follow()
    assert values(served, database, "stage")["prf_user_id_dan"] == "stranger"


def test_a_segment_on_a_tag_follows_in_the_same_refresh(served: Served) -> None:
    ann = served.people.add("ann")
    served.follow()
    create(served, "spent", {"aggregate": SPENT})
    rule = {"tag": "spent", "op": "gte", "value": 1000}
    served.client.post("/v1/segments", json={"key": "rich", "rule": rule})

    buy(served, ann, 1000)
    served.follow()

    assert [(row["change"], row["cause"]) for row in served.changes("rich")] == [
        ("entered", "event")
    ]


def test_a_field_of_an_object_is_reached_by_its_path(served: Served) -> None:
    served.people.event(served.people.add("ann"), "Signed Up", now() - HOUR)
    served.follow()
    case = {"when": {"event": "Signed Up"}, "then": {"group": "new", "score": 3}}
    create(served, "rfm", {"cases": [case]}, type="object")

    answer = served.client.get("/v1/tags/rfm/distribution", params={"field": "group"}).json()
    assert answer["data"] == [{"value": "new", "count": 1}]

    rule = {"tag": "rfm.score", "op": "eq", "value": 3}
    shown = served.client.post("/v1/segments/preview", json={"rule": rule}).json()
    assert shown["count"] == 1


def test_a_value_by_hand_stays_with_its_identifier_through_a_merge(
    served: Served, database: Database
) -> None:
    ann, device = served.people.add("ann"), served.people.add("d1", kind="anonymous_id")
    served.follow()
    create(served, "vip", {"manual": True}, type="boolean")

    answer = served.client.put(
        "/v1/tags/vip/values",
        json={
            "values": [
                {"identifier": {"type": "anonymous_id", "value": "d1"}, "value": True},
                {"identifier": {"type": "user_id", "value": "nobody"}, "value": True},
            ]
        },
    ).json()
    assert answer["stored"] == 1
    assert [row["index"] for row in answer["rejected"]] == [1]
    assert values(served, database, "vip") == {"prf_anonymous_id_d1": True}

    served.people.merge(device, ann)
    served.follow()
    assert values(served, database, "vip") == {"prf_user_id_ann": True}


def test_null_removes_a_value_by_hand(served: Served, database: Database) -> None:
    served.people.add("ann")
    served.follow()
    create(served, "vip", {"manual": True}, type="boolean")
    for value in (True, None):
        identifier = {"type": "user_id", "value": "ann"}
        served.client.put(
            "/v1/tags/vip/values", json={"values": [{"identifier": identifier, "value": value}]}
        )

    assert values(served, database, "vip") == {}
    changes = served.client.get("/v1/tags/vip/changes").json()
    assert [row["value"] for row in changes["data"]] == [True, None]
    assert changes["next"] is not None


def test_computed_values_cannot_be_set_by_hand(served: Served) -> None:
    create(served, "spent", {"aggregate": SPENT})
    value = {"identifier": {"type": "user_id", "value": "ann"}, "value": 1}

    answer = served.client.put("/v1/tags/spent/values", json={"values": [value]})

    assert refusal(answer)[:2] == (409, "tag_is_computed")


def test_a_value_of_another_type_is_refused(served: Served) -> None:
    create(served, "vip", {"manual": True}, type="boolean")
    value = {"identifier": {"type": "user_id", "value": "ann"}, "value": "yes"}

    answer = served.client.put("/v1/tags/vip/values", json={"values": [value]})

    assert refusal(answer) == (422, "wrong_type", "/values/0/value")


@pytest.mark.parametrize(
    ("definition", "code", "path"),
    [
        ({"builtin": "magic"}, "unknown_builtin", "/definition/builtin"),
        ({"sql": "select 1"}, "bad_columns", "/definition/sql"),
        ({"magic": 1}, "unknown_definition", "/definition"),
        ({"manual": True, "cases": []}, "two_forms", "/definition"),
        ({"cases": []}, "bad_value", "/definition/cases"),
        ({"cases": [{"when": {"all": []}}]}, "missing_part", "/definition/cases/0/then"),
        (
            {"cases": [{"when": {"segment": "nobody"}, "then": 1}]},
            "unknown_segment",
            "/definition/cases/0/when/segment",
        ),
        ({"cases": [{"when": {"all": []}, "then": "x"}]}, "wrong_type", "/definition/cases/0/then"),
        ({"aggregate": {"event": 1}}, "bad_value", "/definition/aggregate/event"),
    ],
)
def test_a_wrong_definition_is_refused_at_its_place(
    served: Served, definition: Any, code: str, path: str
) -> None:
    answer = served.client.post(
        "/v1/tags",
        json={"key": "t", "category": "value", "type": "number", "definition": definition},
    )

    assert refusal(answer) == (422, code, path)


def test_a_refused_kind_says_which_are_served(served: Served) -> None:
    answer = served.client.post("/v1/tags", json={"key": "t", "definition": {"magic": 1}})

    for kind in ("aggregate", "cases", "manual", "builtin"):
        assert kind in answer.json()["message"]


def test_a_circle_of_tag_and_segment_is_refused(served: Served) -> None:
    create(served, "t", {"cases": [{"when": {"all": []}, "then": 1}]})
    served.client.post(
        "/v1/segments", json={"key": "s", "rule": {"tag": "t", "op": "eq", "value": 1}}
    )

    answer = served.client.put(
        "/v1/tags/t",
        json={"definition": {"cases": [{"when": {"segment": "s"}, "then": 1}]}},
    )

    assert refusal(answer) == (422, "cycle", "/definition/cases/0/when/segment")


def test_a_tag_in_use_cannot_vanish_and_one_out_of_use_does(
    served: Served, database: Database
) -> None:
    served.people.add("ann")
    served.follow()
    create(served, "t", {"cases": [{"when": {"all": []}, "then": 1}]})
    served.client.post(
        "/v1/segments", json={"key": "s", "rule": {"tag": "t", "op": "eq", "value": 1}}
    )
    assert refusal(served.client.delete("/v1/tags/t"))[:2] == (409, "tag_in_use")

    served.client.delete("/v1/segments/s")
    assert served.client.delete("/v1/tags/t").status_code == 204

    assert values(served, database, "t") == {}
    assert served.client.get("/v1/tags").json()["data"] == []


def test_an_existing_tag_key_is_a_conflict(served: Served) -> None:
    create(served, "t", {"manual": True})

    answer = served.client.post("/v1/tags", json={"key": "t", "definition": {"manual": True}})

    assert refusal(answer)[:2] == (409, "tag_exists")


def test_writing_tags_needs_its_scope(served: Served) -> None:
    answer = served.client_with("segments:write").post("/v1/tags", json={})

    assert refusal(answer)[:2] == (403, "missing_scope")
