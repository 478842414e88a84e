"""Tags must not tell what their reader, or whoever defined them, may not see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

EMAIL = "ann@example.com"
BY_SQL = {"sql": "select profile_id, value from identifiers where type = 'email'"}
BY_HAND = {"manual": True}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        found.people.identify(found.people.add("ann"), "email", EMAIL)
        found.follow()
        yield found


@pytest.fixture
def stranger(served: Served) -> TestClient:
    return served.client_with("segments:read", "segments:write", "tags:write")


def define(client: TestClient, key: str, definition: Any) -> Any:
    return client.post("/v1/tags", json={"key": key, "type": "text", "definition": definition})


def read_value(client: TestClient, key: str) -> Any:
    (row,) = client.get(f"/v1/tags/{key}/values").json()["data"]
    return row["value"]


def test_sql_of_whoever_may_not_see_personal_values_reads_masked_tables(
    served: Served, stranger: TestClient
) -> None:
    assert define(stranger, "masked", BY_SQL).status_code == 201
    assert read_value(served.client, "masked") == "a***"

    changed = served.client.put("/v1/tags/masked", json={"definition": BY_SQL})
    assert changed.status_code == 200
    assert read_value(served.client, "masked") == EMAIL


def test_contacts_in_values_are_masked_wherever_they_are_read(
    served: Served, stranger: TestClient
) -> None:
    assert define(served.client, "mail", BY_SQL).status_code == 201
    assert served.client.post(
        "/v1/segments", json={"key": "s", "rule": {"tag": "mail", "op": "exists"}}
    ).is_success

    assert read_value(stranger, "mail") == "a***"
    for path in (
        "/v1/tags/mail/values?format=csv",
        "/v1/tags/mail/values?format=ndjson",
        "/v1/tags/mail/changes",
        "/v1/tags/mail/distribution",
        "/v1/tags/mail/history",
        "/v1/segments/s/members?fields=tags.mail",
    ):
        assert EMAIL in served.client.get(path).text, path
        text = stranger.get(path).text
        assert "ann@" not in text, path
        assert "a***" in text, path


def test_the_last_value_of_a_personal_property_is_not_for_everybody_to_ask(
    served: Served, stranger: TestClient
) -> None:
    asked = {
        "aggregate": {"event": "Signed Up", "aggregate": {"fn": "last", "property": "first_name"}}
    }
    refused = define(stranger, "name", asked)
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert refused.json()["details"] == {"missing": ["pii:read"]}
    assert define(served.client, "name", asked).status_code == 201
    plain = {"aggregate": {"event": "Signed Up", "aggregate": {"fn": "last", "property": "plan"}}}
    assert define(stranger, "plan", plain).status_code == 201
