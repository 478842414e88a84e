"""Identity over HTTP: rules, refusals, history, explanations."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.errors import NotFound
from cdp.identity.identifiers import normalise
from cdp.identity.routes import create_router
from cdp.identity.twins import digest
from cdp.model import Identifier
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.support.identity_rows import apply, make_store
from tests.support.identity_world import RULES, saw

pytestmark = pytest.mark.anyio

A, B, C = "user_id:a", "user_id:b", "anonymous_id:c"


def _read_name(text: str) -> Identifier:
    kind, _, value = text.partition(":")
    spelt = value if kind == "id" else normalise(kind, value, RULES)
    if spelt is None:
        raise NotFound("profile_not_found", "no profile goes by this identifier")
    return Identifier(kind, spelt)


def make_client(database: Database, *scopes: str) -> httpx.AsyncClient:
    """Return a client of the identity routes alone, with a token of these scopes."""
    router = create_router(database, lambda: RULES, _read_name)
    app = FastAPI()
    app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=TokenDirectory(database))
    install_error_answers(app)
    with database.transaction() as connection:
        _, token = tokens_store.create_token(driver(connection), "test", scopes)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://cdp",
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may read people and see personal values."""
    async with make_client(database, "profiles:read", "pii:read") as client:
        yield client


@pytest.fixture
async def blind(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may read people but not see personal values."""
    async with make_client(database, "profiles:read") as client:
        yield client


async def test_the_rules_are_shown_as_one_document(client: httpx.AsyncClient) -> None:
    document = (await client.get("/v1/identity/rules")).json()
    assert document["version"] == 1
    assert document["hot_limit"] == 5
    assert document["shared_device"] == "anonymous"
    assert document["rebind_after"] == "180d"
    assert {"unique", "priority", "limit", "window", "normalise", "scope", "blocked",
            "blocked_patterns"} <= document["types"]["user_id"].keys()  # fmt: skip


async def test_two_identifiers_are_explained_by_the_events_between_them(
    client: httpx.AsyncClient, database: Database
) -> None:
    apply(
        database,
        make_store(),
        saw(f"{A} {C}", 1, message="m1"),
        saw(f"{A} email:ann@x.cn", 2, message="m2"),
    )
    told = (await client.get("/v1/profiles/email:ANN@x.cn/explain", params={"with": C})).json()
    assert told == {
        "same": True,
        "path": [
            {"from": "email:ann@x.cn", "to": A, "message_id": "m2",
             "at": "2026-01-03T12:00:00.000Z", "source_id": None, "rule": "seen_together"},
            {"from": A, "to": C, "message_id": "m1",
             "at": "2026-01-02T12:00:00.000Z", "source_id": None, "rule": "seen_together"},
        ],
        "withheld": [],
    }  # fmt: skip


async def test_what_kept_two_people_apart_is_told(
    client: httpx.AsyncClient, database: Database
) -> None:
    apply(database, make_store(), saw(f"{A} {C}", 1), saw(f"{B} {C}", 2, message="m2"))
    told = (await client.get(f"/v1/profiles/{A}/explain", params={"with": B})).json()
    assert not told["same"]
    assert told["path"] == []
    assert [
        (row["from"], row["to"], row["message_id"], row["rule"]) for row in told["withheld"]
    ] == [(B, C, "m2", "unique_conflict")]


async def test_strangers_have_nothing_between_them(
    client: httpx.AsyncClient, database: Database
) -> None:
    apply(database, make_store(), saw(A, 1), saw(B, 2))
    told = (await client.get(f"/v1/profiles/{A}/explain", params={"with": B})).json()
    assert told == {"same": False, "path": [], "withheld": []}


async def test_refusals_are_paged_from_the_newest(
    client: httpx.AsyncClient, database: Database
) -> None:
    store = make_store()
    for day, user in enumerate(("a", "b", "d", "e")):
        apply(database, store, saw(f"user_id:{user} email:e@x", day, message=f"m{day}"))
    first = (await client.get("/v1/identity/refused", params={"limit": 2})).json()
    rest = await client.get("/v1/identity/refused", params={"cursor": first["next"]})
    rows = first["data"] + rest.json()["data"]
    assert [row["message_id"] for row in rows] == ["m3", "m2", "m1"]
    assert rows[0] == {
        "a": "user_id:e", "b": "email:e@x", "reason": "unique_conflict", "message_id": "m3",
        "source_id": None, "at": "2026-01-04T12:00:00.000Z",
    }  # fmt: skip
    assert rest.json()["next"] is None


async def test_a_history_tells_joins_merges_and_refusals_in_order(
    client: httpx.AsyncClient, database: Database
) -> None:
    store = make_store()
    apply(database, store, saw(C, 0), saw(A, 1))
    apply(database, store, saw(f"{A} {C}", 2))
    apply(database, store, saw(f"{B} {C}", 3))
    rows = (await client.get(f"/v1/profiles/{A}/history")).json()["data"]
    assert {row["change"] for row in rows} >= {"created", "merged", "joined", "refused"}
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


async def test_a_history_tells_that_a_hash_is_an_address(
    client: httpx.AsyncClient, database: Database
) -> None:
    hashed = f"email_sha256:{digest('ann@x.cn')}"
    apply(database, make_store(), saw(f"{A} email:ann@x.cn", 0), saw(f"{hashed} {C}", 1))
    rows = (await client.get(f"/v1/profiles/{C}/history")).json()["data"]
    told = [row for row in rows if row.get("rule") == "hashed_twin"]
    assert [(row["change"], row["from"], row["to"]) for row in told] == [
        ("joined", "email:ann@x.cn", hashed)
    ]
    upper = f"email_sha256:{digest('ann@x.cn').upper()}"
    assert (await client.get(f"/v1/profiles/{upper}/explain", params={"with": A})).json()["same"]


async def test_a_link_that_no_event_made_names_no_message(
    client: httpx.AsyncClient, database: Database
) -> None:
    hashed = f"email_sha256:{digest('ann@x.cn')}"
    apply(database, make_store(), saw(f"{A} email:ann@x.cn", 0), saw(f"{hashed} {C}", 1))
    told = (await client.get(f"/v1/profiles/{A}/explain", params={"with": hashed})).json()
    twin = told["path"][-1]
    assert (twin["rule"], twin["message_id"], twin["source_id"]) == ("hashed_twin", None, None)


async def test_personal_values_are_masked_without_the_scope(
    blind: httpx.AsyncClient, database: Database
) -> None:
    apply(
        database,
        make_store(),
        saw(f"{A} email:ann@x.cn", 0, message="m0"),
        saw(f"{B} email:ann@x.cn", 1, message="m1"),
    )
    for path in ("identity/refused", f"profiles/{A}/history", f"profiles/{A}/explain?with={B}"):
        answer = await blind.get(f"/v1/{path}")
        assert answer.status_code == 200
        assert "a***" in answer.text
        assert "ann@x.cn" not in answer.text


async def test_nobody_is_explained_with_404(client: httpx.AsyncClient) -> None:
    for path in (f"{A}/history", f"{A}/explain?with={B}"):
        answer = await client.get(f"/v1/profiles/{path}")
        assert answer.status_code == 404
        assert answer.json()["code"] == "profile_not_found"
