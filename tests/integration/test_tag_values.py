"""Pulls of a tag's values with fields of their people, and only of those who consent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pa_parquet
import pytest

from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

NAMES = ("ann", "bob", "eve")
ALL: dict[str, Any] = {"all": []}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        people = [found.people.add(name) for name in NAMES]
        for name, number in zip(NAMES, people, strict=True):
            found.people.trait(number, "city", f"={name}")
            found.people.trait(number, "name", f"{name} Lee")
        found.people.consent(people[0], "marketing", True)
        found.people.consent(people[2], "marketing", True)
        found.people.consent(people[2], "marketing.sms", False)
        found.follow()
        body = {"key": "t", "definition": {"cases": [{"when": ALL, "then": "x"}]}}
        assert found.client.post("/v1/tags", json=body).status_code == 201
        yield found


def get(served: Served, **params: Any) -> Any:
    answer = served.client.get("/v1/tags/t/values", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def list_people(rows: list[dict[str, Any]]) -> list[str]:
    return [row["profile_id"].removeprefix("prf_user_id_") for row in rows]


def test_fields_stand_beside_the_value_in_every_format(served: Served) -> None:
    asked = {"fields": "user_id,traits.city,tags.t"}

    row = get(served, **asked).json()["data"][0]
    assert (row["value"], row["user_id"], row["traits.city"], row["tags.t"]) == (
        "x", "ann", "=ann", "x",
    )  # fmt: skip
    (first, *_) = csv.DictReader(io.StringIO(get(served, format="csv", **asked).text))
    assert (first["user_id"], first["traits.city"]) == ("ann", "'=ann")
    line = get(served, format="ndjson", **asked).text.splitlines()[1]
    assert json.loads(line)["traits.city"] == "=bob"
    file = io.BytesIO(get(served, format="parquet", **asked).content)
    assert pa_parquet.read_table(file)["traits.city"].to_pylist() == ["=ann", "=bob", "=eve"]


def test_only_who_consents_is_pulled_by_any_channel_and_over_pages(served: Served) -> None:
    first = get(served, consent="marketing", limit=1).json()
    rest = get(served, consent="marketing", limit=1, cursor=first["next"]).json()
    assert list_people(first["data"] + rest["data"]) == ["ann", "eve"]
    assert rest["next"] is None
    assert get(served, consent="marketing", format="csv").text.count("\r\n") == 3
    assert list_people(get(served, consent="marketing", channel="sms").json()["data"]) == ["ann"]


def test_personal_fields_are_masked_without_pii(served: Served) -> None:
    client = served.client_with("segments:read")
    for form in ("json", "ndjson", "csv"):
        params = {"fields": "traits.name", "format": form}
        text = client.get("/v1/tags/t/values", params=params).text
        assert "Lee" not in text
        assert "a***" in text


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"fields": "tags.nope"}, "unknown_tag"),
        ({"channel": "sms"}, "missing_part"),
        ({"consent": "a", "channel": "pigeon"}, "unknown_channel"),
    ],
    ids=["tag", "purpose", "channel"],
)
def test_what_cannot_be_asked_is_refused(served: Served, params: dict[str, str], code: str) -> None:
    answer = served.client.get("/v1/tags/t/values", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
