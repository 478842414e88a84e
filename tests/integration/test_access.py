"""Tokens in a real Postgres: made, used, revoked, audited."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from cdp.access import audit_store, routes, tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver

pytestmark = pytest.mark.anyio


def _make_token(database: Database, *scopes: str) -> str:
    with database.transaction() as connection:
        return tokens_store.create_token(driver(connection), "test", scopes)[1]


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with an admin token."""
    tokens = TokenDirectory(database)
    router = routes.create_router(database, tokens)
    app = FastAPI()
    app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=tokens)
    install_error_answers(app)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://cdp",
        headers=_as(_make_token(database, "admin")),
    ) as client:
        yield client


async def test_a_token_is_shown_once_and_kept_only_as_a_hash(
    client: httpx.AsyncClient, database: Database
) -> None:
    made = await client.post("/v1/tokens", json={"name": "bi", "scopes": ["sql:read"]})
    assert made.status_code == 201
    token = made.json()["token"]
    assert re.fullmatch(r"cdp_[A-Za-z0-9_-]{32}", token)
    listed = await client.get("/v1/tokens")
    assert token not in listed.text
    with database.transaction() as connection:
        rows = driver(connection).execute("SELECT tokens::text FROM tokens").fetchall()
    assert all(token not in row[0] for row in rows)
    assert [(t["name"], t["scopes"]) for t in listed.json()["data"]] == [
        ("test", ["admin"]), ("bi", ["sql:read"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": "x", "scopes": ["sql:read", "everything"]}, "/scopes/1"),
        ({"name": "x", "scopes": []}, "/scopes"),
        ({"name": "", "scopes": ["admin"]}, "/name"),
        ({"scopes": ["admin"]}, "/name"),
        ({"name": "x", "scopes": ["admin"], "extra": 1}, "/extra"),
    ],
)
async def test_a_wrong_token_is_refused_with_its_place(
    client: httpx.AsyncClient, body: dict[str, object], path: str
) -> None:
    answer = await client.post("/v1/tokens", json=body)
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, path)


async def test_a_revoked_token_fails_at_once_and_cannot_be_revoked_again(
    client: httpx.AsyncClient,
) -> None:
    made = (await client.post("/v1/tokens", json={"name": "x", "scopes": ["admin"]})).json()
    assert (await client.get("/v1/tokens", headers=_as(made["token"]))).status_code == 200
    assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    refused = await client.get("/v1/tokens", headers=_as(made["token"]))
    assert (refused.status_code, refused.json()["code"]) == (401, "unknown_token")
    again = await client.delete(f"/v1/tokens/{made['id']}")
    assert (again.status_code, again.json()["code"]) == (404, "token_not_found")


async def test_every_change_is_audited_without_the_token(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/tokens", json={"name": "x", "scopes": ["sql:read"]})).json()
    await client.delete(f"/v1/tokens/{made['id']}")
    answer = await client.get("/v1/audit")
    entries = [(e["action"], e["subject"], e["details"]) for e in answer.json()["data"]]
    assert entries == [
        ("token_revoked", made["id"], {}),
        ("token_created", made["id"], {"name": "x", "scopes": ["sql:read"]}),
    ]
    assert answer.json()["data"][0]["actor"].startswith("token:tok_")
    assert made["token"] not in answer.text


async def test_tokens_and_audit_are_for_admin_alone(
    client: httpx.AsyncClient, database: Database
) -> None:
    reader = _as(_make_token(database, "profiles:read", "profiles:write", "sources:write"))
    for method, path in (
        ("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/none"),
        ("GET", "/v1/audit"),
    ):  # fmt: skip
        answer = await client.request(method, path, headers=reader, content=b"{")
        assert (answer.status_code, answer.json()["details"]) == (403, {"missing": ["admin"]})


async def test_lists_are_paged_to_their_end(client: httpx.AsyncClient, database: Database) -> None:
    for number in range(4):
        await client.post("/v1/tokens", json={"name": str(number), "scopes": ["sql:read"]})
    for path, key in (("/v1/tokens", "name"), ("/v1/audit", "subject")):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(path, params=query)).json()
            assert len(page["data"]) <= 2
            found += [row[key] for row in page["data"]]
            cursor = page["next"]
        whole = (await client.get(path)).json()
        assert found == [row[key] for row in whole["data"]]
        assert whole["next"] is None


async def test_a_list_takes_at_most_a_thousand_rows_a_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/tokens?limit=1001")
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/limit")


class _Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_token_is_remembered_for_a_second_and_no_longer(database: Database) -> None:
    clock = _Clock()
    tokens = TokenDirectory(database, monotonic=clock)
    token = _make_token(database, "sql:read")
    assert tokens.recall(token) == (False, None)
    caller = tokens.look_up(token)
    assert caller is not None
    clock.seconds = 0.9
    assert tokens.recall(token) == (True, caller)
    clock.seconds = 1.0
    assert tokens.recall(token) == (False, None)


async def test_a_token_revoked_elsewhere_is_noticed_at_the_next_look(database: Database) -> None:
    tokens = TokenDirectory(database)
    token = _make_token(database, "sql:read")
    caller = tokens.look_up(token)
    assert caller is not None
    with database.transaction() as connection:
        assert tokens_store.revoke_token(driver(connection), caller.token_id, now())
    assert tokens.look_up(token) is None
    assert tokens.recall(token) == (True, None)


async def test_text_that_can_be_no_token_never_reaches_postgres(database: Database) -> None:
    database.close()
    tokens = TokenDirectory(database)
    assert tokens.recall("nonsense") == (True, None)
    assert tokens.recall("cdp_" + "x" * 500) == (True, None)


async def test_use_is_noted_once_a_minute(database: Database) -> None:
    tokens = TokenDirectory(database)
    token = _make_token(database, "sql:read")

    def last_used() -> object:
        with database.transaction() as connection:
            return tokens_store.list_tokens(driver(connection))[0].last_used_at

    assert last_used() is None
    tokens.look_up(token)
    first = last_used()
    assert first is not None
    tokens.look_up(token)
    assert last_used() == first


async def test_an_entry_of_the_audit_goes_with_its_transaction(database: Database) -> None:
    with database.engine.connect() as connection:
        audit_store.record(driver(connection), "cli", "source_created", "src_1", {"name": "x"})
        driver(connection).rollback()
    with database.transaction() as connection:
        assert audit_store.list_audit(driver(connection), limit=10) == []
