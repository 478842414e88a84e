"""The catalogue of traits, and what follows when somebody chooses what is personal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access import personal_names, tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.analytics import routes as query_routes
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.profiles import routes, search_routes, trait_names_routes
from cdp.receipts import Progress
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.committed import committing


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "analytics.duckdb", "256MB", 1)
    yield engine
    engine.close()


@pytest.fixture
def feed(database: Database, engine: Engine) -> Iterator[Feed]:
    feed = Feed(database, engine)
    with committing(database) as batch:
        ann = batch.add_person("42")
        batch.set_trait(ann, "wechat", "ann-1")
        batch.set_trait(ann, "nickname", "Annie")
        batch.add_event(ann, "Signed Up", {"wechat": "ann-1", "nickname": "Annie"})
        batch.tx.execute(
            """INSERT INTO trait_names (name, types, first_seen, last_seen)
               VALUES ('nickname', 1, '2026-03-01Z', '2026-03-02Z'),
                      ('wechat', 17, '2026-03-01Z', '2026-03-02Z')"""
        )
    feed.step(0)
    yield feed
    feed.close()


@pytest.fixture
def client(database: Database, engine: Engine, feed: Feed) -> Iterator[TestClient]:
    routers = [
        search_routes.create_router(database, lambda _, value: value),
        routes.create_router(database, lambda _, value: value),
        trait_names_routes.create_router(database),
        query_routes.create_router(engine, Settings()),
    ]
    app = FastAPI()
    app.state.progress = Progress(lambda log: {}, lambda log: {})
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    with TestClient(app) as client:
        yield client
    personal_names.use_choices({})


def _as(database: Database, *scopes: str) -> dict[str, str]:
    with database.transaction() as connection:
        token = tokens_store.create_token(driver(connection), "test", scopes)[1]
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def reader(database: Database) -> dict[str, str]:
    """May see nothing personal."""
    return _as(database, "profiles:read", "sql:read")


@pytest.fixture
def admin(database: Database) -> dict[str, str]:
    return _as(database, "admin")


def _query(client: TestClient, headers: dict[str, str], sql: str) -> Any:
    answer = client.post("/v1/query", json={"sql": sql}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_the_catalogue_says_types_times_and_what_is_personal(
    client: TestClient, reader: dict[str, str]
) -> None:
    page = client.get("/v1/traits", params={"limit": 1}, headers=reader).json()
    assert page["data"] == [
        {
            "name": "nickname",
            "types": ["text"],
            "personal": True,
            "decided_by": "default",
            "first_seen": "2026-03-01T00:00:00.000Z",
            "last_seen": "2026-03-02T00:00:00.000Z",
        }
    ]
    rest = client.get("/v1/traits", params={"cursor": page["next"]}, headers=reader).json()
    assert [(row["name"], row["types"]) for row in rest["data"]] == [("wechat", ["text", "object"])]
    assert rest["next"] is None


def test_only_an_admin_chooses_and_it_is_audited(
    client: TestClient, reader: dict[str, str], admin: dict[str, str], database: Database
) -> None:
    body = {"personal": True}
    assert client.put("/v1/traits/wechat", json=body, headers=reader).status_code == 403
    answer = client.put("/v1/traits/wechat", json=body, headers=admin)
    assert (answer.json()["personal"], answer.json()["decided_by"]) == (True, "setting")
    client.put("/v1/traits/wechat", json=body, headers=admin)
    back = client.put("/v1/traits/wechat", json={"personal": None}, headers=admin).json()
    assert (back["personal"], back["decided_by"]) == (False, "default")
    with database.transaction() as connection:
        rows = driver(connection).execute(
            "SELECT subject, details FROM audit WHERE action = 'trait_changed' ORDER BY audit_id"
        )
        assert rows.fetchall() == [
            ("wechat", {"personal": True}),
            ("wechat", {"personal": None}),
        ]


def test_a_choice_is_refused_without_a_verdict(client: TestClient, admin: dict[str, str]) -> None:
    assert client.put("/v1/traits/x", json={}, headers=admin).status_code == 422
    assert client.put("/v1/traits/x", json={"personal": 1.5}, headers=admin).status_code == 422


def test_what_is_chosen_is_masked_in_profiles_searches_and_sql(
    client: TestClient, reader: dict[str, str], admin: dict[str, str], feed: Feed
) -> None:
    profile = "/v1/profiles/user_id:42"
    before = client.get(profile, headers=reader).json()["traits"]
    assert before == {"nickname": "A***", "wechat": "ann-1"}
    for name, personal in (("wechat", True), ("nickname", False)):
        client.put(f"/v1/traits/{name}", json={"personal": personal}, headers=admin)
    after = {"nickname": "Annie", "wechat": "a***"}
    assert client.get(profile, headers=reader).json()["traits"] == after
    rows = client.get(f"{profile}/traits", headers=reader).json()["data"]
    assert {row["name"]: row["value"] for row in rows} == after
    event = client.get(f"{profile}/events", headers=reader).json()["data"][0]
    assert event["properties"] == after
    assert client.get("/v1/profiles?trait.wechat=ann-1", headers=reader).status_code == 403
    found = client.get("/v1/profiles?trait.nickname=Annie", headers=reader).json()["data"]
    assert [one["traits"] for one in found] == [after]
    feed.step(0)
    sql = "SELECT name, value FROM traits ORDER BY name"
    assert _query(client, reader, sql) == [
        {"name": "nickname", "value": "Annie"},
        {"name": "wechat", "value": "a***"},
    ]
    assert _query(client, reader, 'SELECT nickname, wechat FROM "Signed Up"') == [after]
    (row,) = _query(client, reader, "SELECT properties FROM events")
    assert row["properties"] == {"nickname": "Annie", "wechat": "***"}
    assert _query(client, admin, 'SELECT wechat FROM "Signed Up"') == [{"wechat": "ann-1"}]
