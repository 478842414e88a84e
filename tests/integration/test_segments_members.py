"""Pulling members: one moment from first to last page, formats, fields, consent, changes, why."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pa_parquet
import pytest

from cdp.runtime.clock import now, parse_time
from cdp.segments import members_engine
from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

BOUGHT = {"event": "Order Completed"}
HOUR = timedelta(hours=1)


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        found.client.post("/v1/segments", json={"key": "buyers", "rule": BOUGHT})
        yield found


def add_buyer(served: Served, name: str) -> int:
    number = served.people.add(name)
    served.people.event(number, "Order Completed", now() - HOUR)
    return number


def pull(served: Served, **params: Any) -> dict[str, Any]:
    answer = served.client.get("/v1/segments/buyers/members", params=params)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["profile_id"] for row in rows]


def make_ann(served: Served) -> int:
    ann = add_buyer(served, "ann")
    served.people.identify(ann, "email", "old@example.com", at=now() - 3 * HOUR)
    served.people.identify(ann, "email", "ann@example.com", at=now() - HOUR)
    served.people.identify(ann, "phone", "+8613800000000")
    served.people.trait(ann, "address", {"city": "上海"})
    served.people.trait(ann, "note", "=1+1")
    served.people.trait(ann, "visits", -3)
    served.follow()
    return ann


FIELDS = "email,phone,traits.address.city,traits.note,traits.visits,traits.nothing"


def test_members_come_with_the_fields_that_were_asked_for(served: Served) -> None:
    make_ann(served)

    (row,) = pull(served, fields=FIELDS)["data"]

    assert parse_time(row.pop("entered_at")) is not None
    assert row == {
        "profile_id": "prf_user_id_ann",
        "email": "ann@example.com",
        "phone": "+8613800000000",
        "traits.address.city": "上海",
        "traits.note": "=1+1",
        "traits.visits": -3,
        "traits.nothing": None,
    }


def test_a_pull_is_one_moment_while_people_enter_and_leave(served: Served) -> None:
    first_day = [add_buyer(served, name) for name in ("a", "b", "c", "d")]
    served.follow()
    page = pull(served, limit=2)
    entered_before = {row["profile_id"]: row["entered_at"] for row in page["data"]}

    add_buyer(served, "e")
    served.people.erase(first_day[2])
    served.people.merge(first_day[3], first_day[0])
    served.follow()
    served.client.put("/v1/segments/buyers", json={"rule": {"event": "Nothing"}})
    served.client.put("/v1/segments/buyers", json={"rule": BOUGHT})
    rest = pull(served, limit=2, cursor=page["next"])

    everybody = [f"prf_user_id_{name}" for name in ("a", "b", "c", "d")]
    assert ids(page["data"]) + ids(rest["data"]) == everybody
    assert rest["next"] is None
    assert {row["entered_at"] for row in rest["data"]} == set(entered_before.values())
    assert sorted(ids(pull(served)["data"])) == [
        "prf_user_id_a", "prf_user_id_b", "prf_user_id_e",
    ]  # fmt: skip


def test_a_cursor_of_another_segment_is_refused(served: Served) -> None:
    for name in ("a", "b"):
        add_buyer(served, name)
    served.follow()
    served.client.post("/v1/segments", json={"key": "other", "rule": BOUGHT})
    cursor = pull(served, limit=1)["next"]

    answer = served.client.get("/v1/segments/other/members", params={"cursor": cursor})

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")


def test_csv_holds_the_whole_set_and_no_formula(served: Served) -> None:
    make_ann(served)
    add_buyer(served, "bob")
    served.follow()

    answer = served.client.get(
        "/v1/segments/buyers/members", params={"fields": FIELDS, "format": "csv", "limit": 1}
    )

    assert answer.headers["content-type"].startswith("text/csv")
    header, ann, bob = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["profile_id", "entered_at", *FIELDS.split(",")]
    assert ann[2:] == ["ann@example.com", "'+8613800000000", "上海", "'=1+1", "-3", ""]
    assert bob[2:] == [""] * 6


def test_ndjson_and_parquet_hold_the_whole_set(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"p{index}" for index in range(7)]
    for name in names:
        add_buyer(served, name)
    served.follow()
    monkeypatch.setattr(members_engine.read_chunks, "__kwdefaults__", {"rows": 3})

    lines = served.client.get("/v1/segments/buyers/members", params={"format": "ndjson"})
    parquet = served.client.get("/v1/segments/buyers/members", params={"format": "parquet"})

    expected = [f"prf_user_id_{name}" for name in names]
    assert ids([json.loads(line) for line in lines.text.splitlines()]) == expected
    file = pa_parquet.ParquetFile(io.BytesIO(parquet.content))
    assert file.read()["profile_id"].to_pylist() == expected
    assert file.num_row_groups == 3


def test_an_empty_segment_exports_its_header_only(served: Served) -> None:
    answer = served.client.get(
        "/v1/segments/buyers/members", params={"format": "csv", "fields": "email"}
    )

    assert answer.text == "profile_id,entered_at,email\r\n"
    assert "X-As-Of" not in answer.headers


def test_without_pii_read_personal_fields_are_masked_in_every_format(served: Served) -> None:
    ann = make_ann(served)
    served.people.trait(ann, "name", "Ann Lee")
    served.people.trait(ann, "plan", "pro")
    served.follow()
    client = served.client_with("segments:read")
    fields = "email,phone,traits.name,traits.address.city,traits.plan"

    for format in ("json", "ndjson", "csv", "parquet"):
        answer = client.get(
            "/v1/segments/buyers/members", params={"fields": fields, "format": format}
        )
        content = answer.content
        if format == "parquet":
            rows = pa_parquet.read_table(io.BytesIO(content)).to_pylist()
            content = json.dumps(rows, default=str, ensure_ascii=False).encode()
        for secret in ("ann@example.com", "+8613800000000", "Ann Lee", "上海"):
            assert secret.encode() not in content
        assert b"pro" in content


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ("tags.nothing", "unknown_tag"),
        ("email,", "bad_field"),
        ("secrets.key", "bad_field"),
        ("email,email", "field_twice"),
    ],
)
def test_a_field_that_is_none_is_refused(served: Served, fields: str, code: str) -> None:
    answer = served.client.get("/v1/segments/buyers/members", params={"fields": fields})

    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_tags_are_fields(served: Served) -> None:
    add_buyer(served, "ann")
    served.follow()
    rule = {"cases": [{"when": BOUGHT, "then": {"group": "champion", "r": 5}}]}
    served.client.post(
        "/v1/tags", json={"key": "rfm", "type": "object", "category": "value", "definition": rule}
    )

    (row,) = pull(served, fields="tags.rfm.group,tags.rfm")["data"]

    assert row["tags.rfm.group"] == "champion"
    assert row["tags.rfm"] == {"group": "champion", "r": 5}


def test_only_who_consents_is_pulled(served: Served) -> None:
    ann, bob, _ = (add_buyer(served, name) for name in ("ann", "bob", "eve"))
    served.people.consent(ann, "marketing", True)
    served.people.consent(bob, "marketing", False)
    served.follow()

    assert ids(pull(served, consent="marketing")["data"]) == ["prf_user_id_ann"]
    assert len(pull(served)["data"]) == 3


def test_a_segment_with_a_purpose_is_only_pulled_by_consent(served: Served) -> None:
    ann, _ = (add_buyer(served, name) for name in ("ann", "bob"))
    served.people.consent(ann, "marketing", True)
    served.follow()
    served.client.put("/v1/segments/buyers", json={"rule": BOUGHT, "consent": "marketing"})

    assert ids(pull(served)["data"]) == ["prf_user_id_ann"]
    answer = served.client.get("/v1/segments/buyers/members", params={"format": "csv"})
    assert answer.text.count("prf_") == 1


def test_changes_are_told_once_and_in_order_whatever_the_page(served: Served) -> None:
    told: list[tuple[str, str]] = []
    cursor: str | None = None

    def read_on() -> None:
        nonlocal cursor
        while True:
            answer = served.client.get(
                "/v1/segments/buyers/changes",
                params={"limit": 2, **({"since": cursor} if cursor else {})},
            ).json()
            assert answer["next"] is not None
            told.extend((row["profile_id"], row["change"]) for row in answer["data"])
            cursor = answer["next"]
            if not answer["data"]:
                return

    read_on()
    for round_no in range(3):
        for name in ("a", "b", "c"):
            add_buyer(served, f"{name}{round_no}")
        served.follow()
        read_on()
    served.client.put("/v1/segments/buyers", json={"rule": {"event": "Nothing"}})
    read_on()

    assert told == [(row["profile_id"], row["change"]) for row in served.changes("buyers")]
    assert len(told) == 18
    assert [change for _, change in told] == ["entered"] * 9 + ["left"] * 9


def test_a_change_says_when_why_and_under_which_version(served: Served) -> None:
    add_buyer(served, "ann")
    served.follow()

    (row,) = served.changes("buyers")

    assert parse_time(row.pop("at")) is not None
    assert row == {
        "change": "entered", "profile_id": "prf_user_id_ann", "cause": "event", "version": 1,
    }  # fmt: skip


def test_why_shows_the_rule_with_what_was_found(served: Served) -> None:
    rule = {"all": [{"trait": "plan", "op": "eq", "value": "pro"}, BOUGHT]}
    served.client.put("/v1/segments/buyers", json={"rule": rule})
    ann = add_buyer(served, "ann")
    served.people.trait(ann, "plan", "free")
    served.follow()

    answer = served.client.get("/v1/segments/buyers/members/user_id:ann").json()

    assert (answer["member"], answer["since"]) == (False, None)
    trait, event = answer["why"]["all"]
    assert (answer["why"]["holds"], trait["holds"], trait["value"]) == (False, False, "free")
    assert (event["holds"], event["value"]) == (True, 1)


def test_why_of_a_member_says_since_when(served: Served) -> None:
    add_buyer(served, "ann")
    served.follow()

    answer = served.client.get("/v1/segments/buyers/members/user_id:ann").json()

    assert answer["member"] is True
    assert answer["since"] == served.changes("buyers")[0]["at"]
    assert answer["why"]["holds"] is True


def test_why_hides_personal_values_without_pii_read(served: Served) -> None:
    served.client.put(
        "/v1/segments/buyers",
        json={"rule": {"any": [{"trait": "name", "op": "exists"}, BOUGHT]}},
    )
    ann = add_buyer(served, "ann")
    served.people.trait(ann, "name", "Ann Lee")
    served.follow()

    answer = served.client_with("segments:read").get("/v1/segments/buyers/members/user_id:ann")

    assert answer.status_code == 200
    assert "Ann Lee" not in answer.text


def test_nobody_is_explained_for_an_unknown_identifier(served: Served) -> None:
    answer = served.client.get("/v1/segments/buyers/members/user_id:nobody")

    assert (answer.status_code, answer.json()["code"]) == (404, "profile_not_found")
