"""The points of the rule language that are about HTTP: limits, warnings, shares, changes, pulls."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

BOUGHT = {"event": "Order Completed"}
HOUR = timedelta(hours=1)


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def preview(served: Served, rule: Any) -> Any:
    return served.client.post("/v1/segments/preview", json={"rule": rule})


def mistake(answer: Any) -> tuple[int, Any]:
    document = answer.json()
    assert set(document) == {"code", "message", "details"}
    return answer.status_code, document["details"].get("path")


def create(served: Served, key: str, rule: Any, kind: str = "segments") -> Any:
    body = {"key": key, "rule": rule}
    if kind == "tags":
        body = {"key": key, "name": key, "category": "basic", "type": "text", "definition": rule}
    answer = served.client.post(f"/v1/{kind}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_the_schema_that_is_served_tells_rules_from_what_is_none(served: Served) -> None:
    schema = served.client.get("/v1/rules/schema").json()
    validator = jsonschema.Draft202012Validator(schema)
    rules: list[tuple[Any, bool]] = [
        (BOUGHT, True),
        ({"all": []}, True),
        ({"not": {"account": {"trait": "plan", "op": "exists"}}}, True),
        ({"trait": "plan", "op": "in", "value": ["pro", 1, True]}, True),
        ({"trait": "plan", "op": "is", "value": "pro"}, False),
        ({"trait": "plan", "op": "eq"}, False),
        ({"trait": "plan", "op": "exists", "value": 1}, False),
        ({"event": "E", "within": {"last": "3 days"}}, False),
        ({"account": {"event": "E"}}, False),
        ({"event": "E", "segment": "vip"}, False),
        ({}, False),
    ]
    for rule, is_rule in rules:
        assert validator.is_valid(rule) == is_rule, rule
        assert (preview(served, rule).status_code == 200) == is_rule, rule
    assert served.client_with("profiles:read").get("/v1/rules/schema").status_code == 403


def test_point_24_every_mistake_is_told_with_its_place_in_the_body(served: Served) -> None:
    figure = {"event": "E", "aggregate": {"fn": "median", "property": "p"}, "op": "eq", "value": 1}
    mistakes: list[tuple[Any, str]] = [
        ({"any": [BOUGHT, {"trait": "a", "op": "like", "value": 1}]}, "/rule/any/1/op"),
        ({"weather": "fine"}, "/rule"),
        ({**BOUGHT, "limit": 1}, "/rule/limit"),
        (figure, "/rule/aggregate/fn"),
        ({**BOUGHT, "within": {"last": "1 week"}}, "/rule/within/last"),
        ({**BOUGHT, "within": {"calendar": "era"}}, "/rule/within/calendar"),
        ({**BOUGHT, "within": {"calendar": "day", "tz": "Nowhere"}}, "/rule/within/tz"),
        ({"trait": "a/b~c", "op": "between", "value": [1, None]}, "/rule/value/1"),
        ([], "/rule"),
        (None, "/rule"),
    ]
    for rule, place in mistakes:
        assert mistake(preview(served, rule)) == (422, place)
    assert mistake(served.client.post("/v1/segments/preview", json={})) == (422, "/rule")
    by_tag = {"key": "t", "name": "T", "category": "basic", "type": "text",
              "definition": {"cases": [{"when": {"event": 1}, "then": "a"}]}}  # fmt: skip
    answer = served.client.post("/v1/tags", json=by_tag)
    assert mistake(answer) == (422, "/definition/cases/0/when/event")


def test_point_25_a_share_is_of_all_profiles_the_anonymous_too(served: Served) -> None:
    buyer = served.people.add("ann")
    for name in ("x", "y", "z"):
        served.people.add(name, kind="anonymous_id")
    served.people.event(buyer, "Order Completed", now() - HOUR)
    served.follow()
    shown = preview(served, BOUGHT).json()
    assert (shown["count"], shown["share"]) == (1, 0.25)


def test_point_26_changes_begin_with_the_segment_and_merges_are_told_as_such(
    served: Served,
) -> None:
    ann, bob, eve = (served.people.add(name) for name in ("ann", "bob", "eve"))
    for number in (ann, bob):
        served.people.event(number, "Order Completed", now() - HOUR)
    served.follow()
    create(served, "buyers", BOUGHT)
    create(served, "twice", {**BOUGHT, "count": {"op": "gte", "value": 2}})
    first = served.changes("buyers")
    assert [(row["change"], row["cause"]) for row in first] == [("entered", "definition")] * 2

    served.people.merge(bob, ann)
    served.follow()

    (left,) = served.changes("buyers")[2:]
    told = (left["profile_id"], left["change"], left["cause"], left["version"])
    assert told == (served.people.profile_id(bob), "left", "merge", 1)
    (entered,) = served.changes("twice")
    assert (entered["profile_id"], entered["change"], entered["cause"]) == (
        served.people.profile_id(ann), "entered", "merge",
    )  # fmt: skip
    assert eve


def test_point_27_why_answers_for_members_and_for_others(served: Served) -> None:
    ann = served.people.add("ann")
    served.people.add("bob")
    served.people.event(ann, "Order Completed", now() - HOUR)
    served.follow()
    create(served, "buyers", {"all": [BOUGHT, {"not": {"trait": "plan", "op": "exists"}}]})

    for name, is_member, count in (("ann", True, 1), ("bob", False, 0)):
        shown = served.client.get(f"/v1/segments/buyers/members/user_id:{name}").json()
        assert (shown["member"], shown["why"]["holds"]) == (is_member, is_member)
        event, inverted = shown["why"]["all"]
        assert (event["event"], event["holds"], event["value"]) == (
            "Order Completed", is_member, count,
        )  # fmt: skip
        assert (inverted["holds"], inverted["not"]["holds"]) == (True, False)
        assert inverted["not"]["value"] is None
        assert (shown["since"] is not None) == is_member


def test_point_31_the_limits_are_served_and_beyond_them_is_422(served: Served) -> None:
    ann = served.people.add("ann")
    served.people.trait(ann, "p", 9_999, now() - HOUR)
    served.follow()
    leaf = {"trait": "p", "op": "eq", "value": 9_999}
    deep: Any = leaf
    for _ in range(31):
        deep = {"any": [deep]}
    many = {"any": [{**leaf, "value": n + 9_000} for n in range(1_000)]}
    for rule in (deep, many, {**leaf, "op": "in", "value": list(range(10_000))}):
        answer = preview(served, rule)
        assert (answer.status_code, answer.json().get("count")) == (200, 1)
    assert mistake(preview(served, {"all": [deep]}))[0] == 422
    assert mistake(preview(served, {**leaf, "value": "x" * 1_100_000})) == (422, "/rule")
    hopeless: Any = leaf
    for _ in range(400):
        hopeless = {"not": hopeless}
    assert mistake(preview(served, hopeless))[0] == 422


def test_point_34_a_whole_set_streams_with_columns_called_as_the_fields(served: Served) -> None:
    for number in range(3):
        person = served.people.add(f"u{number}")
        served.people.event(person, "Order Completed", now() - HOUR)
        served.people.trait(person, "city", "上海", now() - HOUR)
    served.follow()
    create(served, "buyers", BOUGHT)

    def pull(form: str) -> Any:
        params = {"format": form, "fields": "user_id,traits.city", "limit": 1}
        answer = served.client.get("/v1/segments/buyers/members", params=params)
        assert answer.status_code == 200, answer.text
        return answer

    rows = list(csv.DictReader(io.StringIO(pull("csv").text.removeprefix("\ufeff"))))
    table = pq.read_table(io.BytesIO(pull("parquet").content))
    lines = pull("ndjson").text.splitlines()
    columns = ["profile_id", "entered_at", "user_id", "traits.city"]
    assert (list(rows[0]), table.column_names) == (columns, columns)
    assert (len(rows), table.num_rows, len(lines)) == (3, 3, 3)
    assert {row["user_id"] for row in rows} == {"u0", "u1", "u2"}


def test_a_comparison_of_types_that_never_met_is_warned_of_in_events_and_sums_too(
    served: Served,
) -> None:
    ann = served.people.add("ann")
    served.people.event(ann, "Order Completed", now() - HOUR, {"total": "100"})
    served.people.trait(ann, "age", 42, now() - HOUR)
    with served.engine.write() as duck:
        duck.execute("INSERT INTO core.event_properties VALUES ('Order Completed', 'total', 1)")
    served.follow()
    where = {**BOUGHT, "where": [{"property": "total", "op": "gte", "value": 100}]}
    total = {"fn": "sum", "property": "total"}
    rule = {"any": [{"trait": "age", "op": "eq", "value": "42"}, where,
                    {**BOUGHT, "aggregate": total, "op": "gte", "value": 1}]}  # fmt: skip
    shown = preview(served, rule).json()
    assert [(one["code"], one["path"]) for one in shown["warnings"]] == [
        ("type_mismatch", "/rule/any/0"),
        ("type_mismatch", "/rule/any/1/where/0"),
        ("type_mismatch", "/rule/any/2/aggregate"),
    ]
    assert shown["count"] == 0


def test_a_circle_through_tags_and_segments_is_refused_and_who_uses_a_tag_is_told(
    served: Served,
) -> None:
    create(served, "level", {"cases": [{"when": BOUGHT, "then": "high"}]}, "tags")
    create(served, "high", {"tag": "level", "op": "eq", "value": "high"})
    cases = {"cases": [{"when": {"segment": "high"}, "then": "high"}]}
    answer = served.client.put("/v1/tags/level", json={"definition": cases})
    assert mistake(answer) == (422, "/definition/cases/0/when/segment")

    answer = served.client.delete("/v1/tags/level")
    assert (answer.status_code, answer.json()["code"]) == (409, "tag_in_use")
    assert answer.json()["details"]["used_by"] == [{"kind": "segment", "key": "high"}]
    body = {"key": "level", "name": "L", "category": "basic", "type": "text",
            "definition": {"manual": True}}  # fmt: skip
    assert served.client.post("/v1/tags", json=body).status_code == 409
    assert mistake(served.client.post("/v1/tags", json={**body, "key": "Level"})) == (422, "/key")
