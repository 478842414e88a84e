"""The life of a segment over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.receipts import encode
from cdp.runtime.clock import format_time, now
from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

BOUGHT = {"event": "Order Completed"}
HOUR = timedelta(hours=1)


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def create(served: Served, key: str, rule: Any = BOUGHT, **more: Any) -> dict[str, Any]:
    answer = served.client.post("/v1/segments", json={"key": key, "rule": rule, **more})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def buyers(served: Served, *names: str) -> list[int]:
    numbers = [served.people.add(name) for name in names]
    for number in numbers:
        served.people.event(number, "Order Completed", now() - HOUR)
    served.follow()
    return numbers


def refusal(answer: Any) -> tuple[int, str, Any]:
    document = answer.json()
    assert set(document) == {"code", "message", "details"}
    return answer.status_code, document["code"], document["details"].get("path")


def test_a_new_segment_answers_with_its_members_counted(served: Served) -> None:
    buyers(served, "ann", "bob")

    segment = create(served, "buyers", name="Buyers", description="who bought")

    assert (segment["key"], segment["name"], segment["version"]) == ("buyers", "Buyers", 1)
    assert (segment["status"], segment["count"], segment["warnings"]) == ("ready", 2, [])
    assert segment["rule"] == BOUGHT
    assert segment["as_of"] is not None


def test_the_rule_comes_back_exactly_as_it_was_written(served: Served) -> None:
    rule = {"all": [{"trait": "z", "op": "eq", "value": 1.50}, {"trait": "a", "op": "exists"}]}

    create(served, "s", rule)

    shown = served.client.get("/v1/segments/s").text
    assert '"op":"eq","value":1.5' in shown.replace(" ", "")
    assert shown.index('"z"') < shown.index('"a"')


def test_an_existing_key_is_a_conflict(served: Served) -> None:
    create(served, "buyers")

    answer = served.client.post("/v1/segments", json={"key": "buyers", "rule": BOUGHT})

    assert refusal(answer)[:2] == (409, "segment_exists")


@pytest.mark.parametrize("key", ["Buyers", "1st", "a-b", "", "a" * 101])
def test_a_malformed_key_is_refused_at_its_place(served: Served, key: str) -> None:
    answer = served.client.post("/v1/segments", json={"key": key, "rule": BOUGHT})

    assert refusal(answer) == (422, "bad_key", "/key")


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"all": [{"trait": "plan", "op": "is", "value": 1}]}, "/rule/all/0/op"),
        ({"segment": "nobody"}, "/rule/segment"),
        ({"any": [{"tag": "nothing.at_all", "op": "exists"}]}, "/rule/any/0/tag"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_place_of_the_mistake(
    served: Served, rule: Any, path: str
) -> None:
    answer = served.client.post("/v1/segments", json={"key": "s", "rule": rule})

    assert refusal(answer)[0::2] == (422, path)


def test_a_circle_of_segments_is_refused(served: Served) -> None:
    create(served, "a")
    create(served, "b", {"segment": "a"})
    create(served, "c", {"not": {"segment": "b"}})

    answer = served.client.put("/v1/segments/a", json={"rule": {"all": [BOUGHT, {"segment": "c"}]}})

    assert refusal(answer) == (422, "cycle", "/rule/all/1/segment")


def test_a_segment_cannot_refer_to_itself(served: Served) -> None:
    create(served, "a")

    answer = served.client.put("/v1/segments/a", json={"rule": {"segment": "a"}})

    assert refusal(answer) == (422, "cycle", "/rule/segment")


def test_each_put_is_a_new_version_and_the_old_ones_are_kept(served: Served) -> None:
    buyers(served, "ann")
    create(served, "s", {"event": "Nothing"})

    changed = served.client.put("/v1/segments/s", json={"rule": BOUGHT, "name": "New"}).json()

    assert (changed["version"], changed["count"], changed["name"]) == (2, 1, "New")
    history = served.client.get("/v1/segments/s/history").json()
    assert [row["rule"] for row in history["versions"]] == [{"event": "Nothing"}, BOUGHT]
    assert [row["count"] for row in history["data"]] == [1]


def test_a_segment_in_use_cannot_vanish(served: Served) -> None:
    create(served, "a")
    create(served, "b", {"segment": "a"})

    answer = served.client.delete("/v1/segments/a")

    assert refusal(answer)[:2] == (409, "segment_in_use")
    assert answer.json()["details"]["used_by"] == [{"kind": "segment", "key": "b"}]
    assert "b" in answer.json()["message"]


def test_a_deleted_segment_is_gone_and_may_come_back_with_changes_of_its_own(
    served: Served,
) -> None:
    buyers(served, "ann")
    create(served, "s")
    assert served.client.delete("/v1/segments/s").status_code == 204
    assert refusal(served.client.get("/v1/segments/s"))[:2] == (404, "segment_not_found")
    assert refusal(served.client.get("/v1/segments/s/changes"))[0] == 404

    create(served, "s")

    assert [row["change"] for row in served.changes("s")] == ["entered"]


def test_segments_are_listed_by_key_in_pages(served: Served) -> None:
    for key in ("b", "a", "c"):
        create(served, key)

    first = served.client.get("/v1/segments", params={"limit": 2}).json()
    second = served.client.get("/v1/segments", params={"cursor": first["next"]}).json()

    assert [row["key"] for row in first["data"] + second["data"]] == ["a", "b", "c"]
    assert second["next"] is None


def test_a_segment_as_of_a_moment_has_the_version_and_size_of_then(served: Served) -> None:
    buyers(served, "ann")
    create(served, "s", {"event": "Nothing"})
    then = now()
    served.client.put("/v1/segments/s", json={"rule": BOUGHT})

    shown = served.client.get("/v1/segments/s", params={"at": format_time(then)}).json()

    assert (shown["version"], shown["count"], shown["rule"]) == (1, 0, {"event": "Nothing"})
    before = format_time(then - HOUR)
    assert served.client.get("/v1/segments/s", params={"at": before}).status_code == 404


def test_a_preview_counts_and_shows_faces_and_keeps_nothing(served: Served) -> None:
    ann, *_ = buyers(served, "ann", "bob")
    served.people.add("eve")
    served.people.identify(ann, "email", "ann@example.com")
    served.people.trait(ann, "name", "安妮")
    served.follow()

    shown = served.client.post("/v1/segments/preview", json={"rule": BOUGHT}).json()

    assert shown["count"] == 2
    assert shown["share"] == pytest.approx(2 / 3)
    assert shown["sample"][0]["traits"] == {"name": "安妮"}
    assert {"type": "email", "value": "ann@example.com"} in shown["sample"][0]["identifiers"]
    assert {"took_ms", "as_of"} <= shown.keys()
    assert served.client.get("/v1/segments").json()["data"] == []


def test_a_preview_without_pii_read_is_masked(served: Served) -> None:
    (ann,) = buyers(served, "ann")
    served.people.identify(ann, "email", "ann@example.com")
    served.people.trait(ann, "name", "Ann Lee")
    served.follow()

    shown = served.client_with("segments:read").post("/v1/segments/preview", json={"rule": BOUGHT})

    assert shown.status_code == 200
    assert "ann@example.com" not in shown.text
    assert "Ann Lee" not in shown.text


def test_a_preview_of_nobody_is_zero(served: Served) -> None:
    shown = served.client.post("/v1/segments/preview", json={"rule": BOUGHT}).json()

    assert (shown["count"], shown["share"], shown["sample"]) == (0, 0, [])


def test_a_comparison_that_no_value_can_satisfy_is_warned_of_at_its_place(served: Served) -> None:
    (ann,) = buyers(served, "ann")
    served.people.trait(ann, "age", 42)
    served.follow()
    rule = {"all": [BOUGHT, {"trait": "age", "op": "eq", "value": "42"}]}

    previewed = served.client.post("/v1/segments/preview", json={"rule": rule}).json()
    created = create(served, "s", rule)

    for answer in (previewed, created, served.client.get("/v1/segments/s").json()):
        (warning,) = answer["warnings"]
        assert (warning["code"], warning["path"]) == ("type_mismatch", "/rule/all/1")
        assert answer["count"] == 0


def test_an_overlap_names_every_combination(served: Served) -> None:
    ann, _ = buyers(served, "ann", "bob")
    served.people.event(ann, "Signed Up", now() - HOUR)
    served.follow()
    create(served, "buyers")
    create(served, "new", {"event": "Signed Up"})

    shown = served.client.post("/v1/segments/overlap", json={"segments": ["buyers", "new"]}).json()

    assert shown["sizes"] == {"buyers": 2, "new": 1}
    assert shown["data"] == [
        {"segments": ["buyers"], "count": 1},
        {"segments": ["buyers", "new"], "count": 1},
    ]


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/v1/segments", ("segments:read",)),
        ("PUT", "/v1/segments/s", ("segments:read",)),
        ("DELETE", "/v1/segments/s", ("segments:read",)),
        ("GET", "/v1/segments/s/members", ("segments:write",)),
        ("GET", "/v1/segments/s/changes", ("profiles:read",)),
        ("POST", "/v1/segments/preview", ("profiles:read",)),
    ],
)
def test_a_token_without_the_scope_is_forbidden(
    served: Served, method: str, path: str, scopes: tuple[str, ...]
) -> None:
    answer = served.client_with(*scopes).request(method, path)

    assert refusal(answer)[:2] == (403, "missing_scope")


def test_a_read_after_a_receipt_has_that_write_in_it(served: Served) -> None:
    create(served, "buyers")
    ann = served.people.add("ann")
    served.people.event(ann, "Order Completed", now() - HOUR)
    seq = served.people.publish(now())
    receipt = {"after": encode("postgres", {0: seq - 1}), "wait": "0s"}

    # DuckDB has it, but nobody has evaluated it yet.
    too_early = served.client.get("/v1/segments/buyers/members", params=receipt)
    served.refresher.refresh(now())
    answer = served.client.get("/v1/segments/buyers/members", params=receipt)

    assert refusal(too_early)[:2] == (503, "not_yet")
    assert len(answer.json()["data"]) == 1


def test_changes_of_definitions_are_audited(served: Served, database: Database) -> None:
    create(served, "s")
    served.client.put("/v1/segments/s", json={"rule": BOUGHT})
    served.client.delete("/v1/segments/s")

    with database.transaction() as connection:
        rows = connection.exec_driver_sql("SELECT action FROM audit ORDER BY audit_id").scalars()
        assert list(rows) == ["segment_created", "segment_changed", "segment_deleted"]
