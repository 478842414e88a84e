"""What people are told of identity: whole histories, and why a name is nobody's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.current_rules import CurrentRules
from cdp.identity.by_hand_store import Hand
from cdp.identity.deciding_store import Decided
from cdp.identity.routes import create_router
from cdp.model import Identifier
from cdp.profiles import routes as profile_routes
from cdp.profiles.profile_names import parse_profile_name
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.support.identity_rows import apply, make_store
from tests.support.identity_world import START, saw

pytestmark = pytest.mark.anyio

A, B, C = "user_id:a", "user_id:b", "anonymous_id:c"


@pytest.fixture
def rules(database: Database) -> CurrentRules:
    return CurrentRules(database, "CN")


@pytest.fixture
async def client(database: Database, rules: CurrentRules) -> AsyncIterator[httpx.AsyncClient]:
    """A steward without the scope of those who read profiles."""
    async with _make_client(database, rules, "identity:write", "pii:read") as client:
        yield client


def _make_client(database: Database, rules: CurrentRules, *scopes: str) -> httpx.AsyncClient:
    read_name = partial(parse_profile_name, normalise=rules.read_name)
    routers = [
        create_router(database, rules.get, read_name, rules.forget),
        profile_routes.create_router(database, rules.read_name),
    ]
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    with database.transaction() as connection:
        _, token = tokens_store.create_token(driver(connection), "test", scopes)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://cdp",
        headers={"Authorization": f"Bearer {token}"},
    )


def _decide(database: Database, deed: Callable[[Hand], Decided]) -> Decided:
    with database.transaction() as connection:
        return deed(Hand(driver(connection), "CN", "token:test", "a test", START))


async def _read_history(client: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.get(f"/v1/profiles/{name}/history")).json()["data"]
    return rows


async def test_a_merge_stays_in_both_histories_when_it_is_undone(
    client: httpx.AsyncClient, database: Database
) -> None:
    apply(database, make_store(), saw(A, 0), saw(B, 1))
    names = [Identifier("user_id", "a"), Identifier("user_id", "b")]
    made = _decide(database, lambda hand: hand.merge(names, allow_unique_conflict=True))
    _decide(database, lambda hand: hand.undo(made.decision_id))
    for name in (A, B):
        told = [row["change"] for row in await _read_history(client, name)]
        expected = ["merged", "merged_by_hand", "parted", "merge_undone"]
        assert [one for one in told if one != "created"] == expected, name


async def test_a_merge_names_the_event_behind_it_also_when_it_was_withdrawn_since(
    client: httpx.AsyncClient, database: Database
) -> None:
    store = make_store()
    apply(database, store, saw(A, 0), saw(C, 1))
    apply(database, store, saw(f"{A} {C}", 2, message="m2"))
    _decide(database, lambda hand: hand.unmerge([Identifier("anonymous_id", "c")]))
    for name in (A, C):
        rows = [row for row in await _read_history(client, name) if row["change"] == "merged"]
        assert [row["details"]["message_id"] for row in rows] == ["m2"]


async def test_a_history_is_paged(client: httpx.AsyncClient, database: Database) -> None:
    store = make_store()
    apply(database, store, saw(A, 0))
    for n in range(4):
        apply(database, store, saw(f"{A} anonymous_id:c{n}", 1 + n))
    whole = await _read_history(client, A)
    paged: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(f"/v1/profiles/{A}/history", params={"limit": "2", **cursor})
        paged += answer.json()["data"]
        if answer.json()["next"] is None:
            break
        cursor = {"cursor": answer.json()["next"]}
    assert paged == whole
    assert len(whole) >= 5


@pytest.mark.parametrize(("name", "rule"), [("user_id:null", "value"), ("phone:10086", "pattern")])
async def test_a_value_that_the_rules_block_is_nobodys_and_says_why(
    client: httpx.AsyncClient, database: Database, rules: CurrentRules, name: str, rule: str
) -> None:
    apply(database, make_store(), saw(A, 0))
    async with _make_client(database, rules, "profiles:read") as reader:
        answer = await reader.get(f"/v1/profiles/{name}")
    assert answer.status_code == 404
    assert answer.json()["details"]["rule"] == rule
    assert "blocked" in answer.json()["message"]
    told = (await client.get(f"/v1/profiles/{A}/explain", params={"with": name})).json()
    assert not told["same"]
    assert [row["rule"] for row in told["withheld"]] == ["blocked"]


async def test_a_value_blocked_by_hand_is_explained_by_the_events_that_carried_it(
    client: httpx.AsyncClient, database: Database, rules: CurrentRules
) -> None:
    apply(database, make_store(), saw(f"{A} email:shop@x.cn", 0, message="m0"))
    _decide(database, lambda hand: hand.block("email", "shop@x.cn"))
    rules.forget()
    for one, other in ((A, "email:shop@x.cn"), ("email:SHOP@x.cn", A)):
        told = (await client.get(f"/v1/profiles/{one}/explain", params={"with": other})).json()
        assert told["withheld"] == [
            {"from": A, "to": "email:shop@x.cn", "message_id": "m0", "source_id": None,
             "at": "2026-01-01T12:00:00.000Z", "rule": "blocked"}]  # fmt: skip
    answer = await client.get("/v1/profiles/email:shop@x.cn/history")
    assert answer.status_code == 404
    assert answer.json()["details"]["rule"] == "by_hand"


async def test_a_second_value_of_a_strong_type_is_claimed_by_nobody_else(
    client: httpx.AsyncClient, database: Database, rules: CurrentRules
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} crm_id:k email:e@x.cn", 0))
    apply(database, store, saw(f"{B} crm_id:k email:e@x.cn", 1))
    async with _make_client(database, rules, "profiles:read", "pii:read") as reader:
        shown = (await reader.get(f"/v1/profiles/{A}")).json()["identifiers"]
    assert {one["type"] for one in shown if "also_claimed_by" in one} == {"email"}


async def test_whoever_may_decide_may_read_what_is_decided(
    client: httpx.AsyncClient, database: Database, rules: CurrentRules
) -> None:
    paths = ("rules", "refused", "hot", "decisions", "rules/status", "rules/versions")
    for path in paths:
        assert (await client.get(f"/v1/identity/{path}")).status_code == 200, path
    async with _make_client(database, rules, "segments:read") as stranger:
        answer = await stranger.get("/v1/identity/refused")
    assert answer.status_code == 403
    assert "profiles:read or identity:write" in answer.json()["message"]
