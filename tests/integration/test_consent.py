"""Consent is stated through the API like any other fact, kept with its proof, and shown."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp import consent_routes, receipts
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.identity.identifiers import normalise
from cdp.identity.rules import default_rules
from cdp.ingest.door import Door
from cdp.profiles import routes as profile_routes
from cdp.profiles import search_routes
from cdp.receipts import Progress
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import driver
from cdp.storage.positions import read_positions
from tests.support.segments import make_token
from tests.support.small_stack import SmallStack

SCOPES = ("profiles:read", "profiles:write", "pii:read")
SAID = {"categoryPreferences": {"marketing": True}}


@pytest.fixture(scope="module")
def app(stack: SmallStack) -> FastAPI:
    rules = default_rules("CN")
    people = profile_routes.People(stack.database, partial(normalise, rules=rules))
    desk = consent_routes.ConsentDesk(
        people,
        Door(stack.log, Settings(), ()),
        stack.directory.by_id,
        partial(receipts.encode, stack.log.name),
    )
    routers = [
        consent_routes.create_router(desk),
        search_routes.create_router(stack.database, people.normalise),
        profile_routes.create_router(stack.database, people.normalise),
    ]
    app = FastAPI()

    def read(log: str) -> dict[int, int]:
        with stack.database.transaction() as connection:
            return read_positions(driver(connection), log)

    app.state.progress = Progress(read, read)
    for router in routers:
        app.include_router(router)
    tokens = TokenDirectory(stack.database)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=tokens)
    install_error_answers(app)
    return app


@pytest.fixture
def client(stack: SmallStack, app: FastAPI) -> TestClient:
    return TestClient(app, headers=make_token(stack.database, *SCOPES))


def state(client: TestClient, person: str, **statement: Any) -> dict[str, Any]:
    body = {"purpose": "marketing", "granted": True, **statement}
    answer = client.post(f"/v1/profiles/{person}/consent", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def read(client: TestClient, person: str, receipt: str | None = None, **params: Any) -> Any:
    if receipt is not None:
        params |= {"after": receipt, "wait": "10s"}
    answer = client.get(f"/v1/profiles/{person}/consent", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(stack: SmallStack, *events: dict[str, Any]) -> None:
    sender = stack.add_source()
    httpx.post(
        f"{stack.url}/v1/batch", json={"batch": events}, auth=(sender.key, ""), trust_env=False
    ).raise_for_status()
    stack.wait_for(sender, len(events))


def test_a_statement_is_shown_with_its_time_origin_and_proof(client: TestClient) -> None:
    proof = {"form": "newsletter", "version": 3}
    said = state(client, "user_id:told", at="2026-03-01T08:00:00Z", source="letter", evidence=proof)
    assert (said["accepted"], said["rejected"]) == (1, [])
    (row,) = read(client, "user_id:told", said["receipt"])["data"]
    assert row.pop("message_id").startswith("consent-")
    assert row.pop("source_id").startswith("src_")
    assert row == {
        "purpose": "marketing", "channel": None, "granted": True, "default": False,
        "at": "2026-03-01T08:00:00.000Z", "source": "letter", "evidence": proof,
        "stated_for": "marketing",
    }  # fmt: skip


def test_a_statement_sent_again_is_one_statement(client: TestClient) -> None:
    for _ in range(2):
        said = state(client, "user_id:twice", at="2026-03-01T08:00:00Z")
    history = read(client, "user_id:twice", said["receipt"], history=True)["data"]
    assert len(history) == 1


def test_a_channel_follows_its_purpose_until_it_has_a_newer_word_of_its_own(
    client: TestClient,
) -> None:
    state(client, "user_id:channels", at="2026-03-01T00:00:00Z")
    said = state(
        client, "user_id:channels", channel="email", granted=False, at="2026-03-02T00:00:00Z"
    )

    def may(receipt: str, **params: Any) -> bool:
        found = read(client, "user_id:channels", receipt, purpose="marketing", **params)
        return bool(found["may_be_reached"])

    assert not may(said["receipt"], channel="email")
    assert may(said["receipt"], channel="sms")
    assert may(said["receipt"])
    assert may(said["receipt"], channel="email", at="2026-03-01T12:00:00Z")
    denied = state(client, "user_id:channels", granted=False, at="2026-03-03T00:00:00Z")
    assert not may(denied["receipt"], channel="sms")


def test_a_repetition_is_kept_in_the_timeline_only_and_history_shows_all(
    client: TestClient, stack: SmallStack
) -> None:
    for day, granted in ((1, True), (2, True), (4, False)):
        send(
            stack,
            {
                "type": "track", "event": "E", "userId": "history",
                "timestamp": f"2026-03-0{day}T00:00:00Z",
                "context": {"consent": {"categoryPreferences": {"marketing": granted}}},
            },
        )  # fmt: skip
    history = read(client, "user_id:history", history=True)["data"]
    assert [(row["at"][:10], row["granted"]) for row in history] == [
        ("2026-03-04", False), ("2026-03-02", True), ("2026-03-01", True),
    ]  # fmt: skip
    with stack.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE properties::text = '{}'")
    kept = read(client, "user_id:history", history=True)["data"]
    assert [row["at"][:10] for row in kept] == ["2026-03-04", "2026-03-01"]
    (then,) = read(client, "user_id:history", at="2026-03-03T00:00:00Z")["data"]
    assert then["granted"] is True


def test_in_bulk_each_statement_gets_its_own_verdict(client: TestClient) -> None:
    good = {"identifier": {"type": "email", "value": "bulk@example.com"}, "purpose": "news",
            "channel": "email", "granted": True}  # fmt: skip
    bad = [{**good, "granted": "yes"}, {**good, "channel": "fax"}, {**good, "purpose": ""}, "x",
           {**good, "identifier": {"type": "email", "value": ""}}, {**good, "more": 1},
           {**good, "at": "yesterday"}, {**good, "evidence": "x" * 20_000}]  # fmt: skip
    answer = client.post("/v1/consents", json={"consents": [*bad, good]}).json()
    assert answer["accepted"] == 1
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == list(
        enumerate(
            (
                "invalid_granted", "unknown_channel", "invalid_purpose", "invalid_consent",
                "no_identifier", "unknown_key", "invalid_time", "evidence_too_large",
            )
        )
    )  # fmt: skip
    (row,) = read(client, "email:bulk@example.com", answer["receipt"])["data"]
    assert (row["purpose"], row["channel"], row["granted"]) == ("news", "email", True)


def test_what_is_wrong_with_one_statement_is_said_with_its_place(client: TestClient) -> None:
    answer = client.post(
        "/v1/profiles/user_id:x/consent",
        json={"purpose": "marketing", "granted": True, "channel": "fax"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_channel")
    assert answer.json()["details"]["path"] == "/channel"


def test_a_profile_id_is_as_good_a_name_as_any(client: TestClient, stack: SmallStack) -> None:
    send(stack, {"type": "track", "event": "E", "userId": "by-id"})
    profile_id = client.get("/v1/profiles/user_id:by-id").json()["id"]
    said = state(client, f"id:{profile_id}", granted=False)
    (row,) = read(client, "user_id:by-id", said["receipt"])["data"]
    assert row["granted"] is False
    unknown = client.post(
        "/v1/profiles/id:prf_nobody/consent", json={"purpose": "p", "granted": True}
    )
    assert unknown.status_code == 404


def test_a_refusal_outlives_a_merge_until_somebody_says_more(
    client: TestClient, stack: SmallStack
) -> None:
    state(client, "user_id:merged", granted=False, at="2026-03-01T00:00:00Z")
    state(client, "anonymous_id:merging", at="2026-03-02T00:00:00Z")
    send(
        stack,
        {"type": "identify", "userId": "merged", "anonymousId": "merging",
         "timestamp": "2026-03-03T00:00:00Z"},
    )  # fmt: skip
    (row,) = read(client, "anonymous_id:merging")["data"]
    assert row["granted"] is False
    after = state(client, "anonymous_id:merging", at="2026-03-04T00:00:00Z")
    (row,) = read(client, "user_id:merged", after["receipt"])["data"]
    assert row["granted"] is True


def test_a_look_up_says_who_may_be_reached(client: TestClient) -> None:
    state(client, "user_id:yes")
    said = state(client, "user_id:no", granted=False)
    read(client, "user_id:no", said["receipt"])
    asked = [{"type": "user_id", "value": value} for value in ("yes", "no", "nobody")]
    answer = client.post(
        "/v1/profiles/lookup", json={"identifiers": asked, "consent": "marketing"}
    ).json()
    assert [row["may_be_reached"] for row in answer["data"]] == [True, False, False]
    own = state(client, "user_id:no", channel="sms")
    read(client, "user_id:no", own["receipt"])
    body = {"identifiers": asked, "consent": "marketing", "channel": "sms"}
    by_text = client.post("/v1/profiles/lookup", json=body).json()
    assert [row["may_be_reached"] for row in by_text["data"]] == [True, True, False]


def test_stating_needs_its_scope_and_proof_is_masked(
    client: TestClient, app: FastAPI, stack: SmallStack
) -> None:
    said = state(client, "user_id:masked", evidence={"email": "ann@example.com"})
    read(client, "user_id:masked", said["receipt"])
    blind = TestClient(app, headers=make_token(stack.database, "profiles:read"))
    refused = blind.post("/v1/profiles/user_id:masked/consent", json={"granted": "?"})
    assert refused.status_code == 403
    assert "ann@example.com" not in str(read(blind, "user_id:masked"))
