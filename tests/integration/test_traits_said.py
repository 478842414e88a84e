"""Traits from the door to the profile: in whatever order they are said, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cdp.log.postgres_log import PostgresLog
from cdp.profiles import routes
from cdp.receipts import Progress
from cdp.storage.database import Database
from tests.support.outcome_stack import OutcomeStack

_CITY = {"address": {"city": "上海", "zip": "200000"}}


@pytest.fixture
def stack(database: Database) -> OutcomeStack:
    return OutcomeStack(database, PostgresLog(database, 2))


@pytest.fixture
def client(stack: OutcomeStack) -> Iterator[TestClient]:
    app = stack.build_api(routes.create_router(stack.database, lambda _, value: value))
    app.state.progress = Progress(lambda log: {}, lambda log: {})
    token = stack.make_token("profiles:read", "sources:write", "pii:read")
    with TestClient(app, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def _say(hour: int, traits: dict[str, Any], message: str = "") -> dict[str, Any]:
    return {
        "type": "identify",
        "userId": "42",
        "messageId": message or f"m{hour}",
        "timestamp": f"2026-03-01T{hour:02}:00:00Z",
        "traits": traits,
    }


def _post(stack: OutcomeStack, *said: dict[str, Any]) -> dict[str, str]:
    """Deliver all in one batch and work it off; return the codes of what the door refused."""
    judged = stack.post("batch", json.dumps({"batch": said}).encode())
    stack.work()
    return {str(one.message_id): one.code for one in judged.rejected}


def _read(client: TestClient, path: str = "", **params: str) -> Any:
    answer = client.get(f"/v1/profiles/user_id:42{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_operations_come_to_the_same_out_of_order(stack: OutcomeStack, client: TestClient) -> None:
    refused = _post(
        stack,
        _say(5, {"address": {"city": "杭州"}, "old": {"$unset": True}, "gone": None}),
        _say(2, {**_CITY, "old": 1, "gone": "x", "interests": {"$add": ["shoes"]}}),
        _say(4, {"interests": {"$add": ["coats"]}, "origin": {"$set_once": "mail"}}),
        _say(1, {"origin": {"$set_once": "ads"}, "🐼": "熊猫"}),
    )
    assert refused == {}
    profile = _read(client)
    assert profile["traits"] == {
        "address": {"city": "杭州", "zip": "200000"},
        "interests": ["coats", "shoes"],
        "origin": "ads",
        "🐼": "熊猫",
    }
    then = _read(client, at="2026-03-01T03:00:00Z")["traits"]
    assert then == {
        "address": {"city": "上海", "zip": "200000"},
        "gone": "x",
        "interests": ["shoes"],
        "old": 1,
        "origin": "ads",
        "🐼": "熊猫",
    }


def test_each_part_tells_its_source_and_history_is_as_it_was_said(
    stack: OutcomeStack, client: TestClient
) -> None:
    _post(
        stack,
        _say(1, {**_CITY, "birthday": "1900-02-29"}),
        _say(2, {"address": {"city": "杭州"}}),
        _say(3, {"firstName": "Ann", "lastName": "Lee"}),
    )
    rows = {row["name"]: row for row in _read(client, "/traits", provenance="true")["data"]}
    assert rows["address"]["message_id"] == "m2"
    parts = [(one["path"], one["message_id"]) for one in rows["address"]["parts"]]
    assert sorted(parts) == [("address.city", "m2"), ("address.zip", "m1")]
    assert (rows["birthday"]["value"], rows["birthday"]["flag"]) == (
        "1900-02-29",
        "impossible_date",
    )
    history = _read(client, "/traits", history="true")["data"]
    said = [row["value"] for row in history if row["name"] == "address"]
    assert said == [{"city": "杭州"}, _CITY["address"]]
    assert _read(client)["name"] == "Ann Lee"
    assert "name" not in _read(client)["traits"]


def test_what_may_not_be_said_is_refused_event_by_event(
    stack: OutcomeStack, client: TestClient
) -> None:
    faults: dict[str, dict[str, Any]] = {
        "unknown_operation": {"n": {"$inc": 1}},
        "mixed_operation": {"n": {"$add": [1], "$unset": True}},
        "misplaced_operation": {"$set_once": {"n": 1}},
        "nested_operation": {"n": {"within": {"$add": [1]}}},
        "invalid_operation": {"n": {"$unset": 1}},
        "too_many_traits": {f"t{n}": n for n in range(10_000)},
        "trait_too_large": {"n": "x" * 1_000_000},
        "trait_name_too_long": {"n" * 201: 1},
        "trait_too_deep": json.loads('{"n":' * 12 + "1" + "}" * 12),
    }
    stack.source = stack.make_source("big", "server", max_event_bytes=4_000_000)
    judged = _post(
        stack, *(_say(1, traits, code) for code, traits in faults.items()), _say(2, {"a": 1})
    )
    listed = client.get("/v1/rejected", params={"source_id": stack.source.source_id}).json()["data"]
    late = {row["messageId"]: row["code"] for row in listed}
    assert {**late, **judged} == {code: code for code in faults}
    assert _read(client)["traits"] == {"a": 1}
    balance = stack.read_balance()
    assert (balance["stored"], balance["rejected"]) == (1, len(faults))
