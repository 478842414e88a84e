"""Write keys over the API: rotated with overlap, disabled, run out, their last use shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.access.tokens_store import create_token
from cdp.ingest import source_routes
from cdp.ingest.source_directory import SourceDirectory
from cdp.runtime.clock import format_time, now, parse_time
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.support.postgres import PostgresServer


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        yield database
        database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(database: Database, clock: Clock) -> SourceDirectory:
    return SourceDirectory(database, now=clock)


@pytest.fixture
def client(database: Database, directory: SourceDirectory) -> TestClient:
    router = source_routes.create_router(database, directory)
    app = FastAPI(strict_content_type=False)
    app.include_router(router)
    tokens = TokenDirectory(database)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=tokens)
    install_error_answers(app)
    with database.transaction() as connection:
        _, token = create_token(driver(connection), "test", ["sources:write"])
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


def make_source(client: TestClient, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = client.post(
        "/v1/sources", json={"name": "shop", "type": "shop"} | body
    ).json()
    return made


def test_a_new_key_lets_the_old_ones_end_after_the_overlap(
    client: TestClient, directory: SourceDirectory, clock: Clock
) -> None:
    made = make_source(client)
    keys = f"/v1/sources/{made['id']}/keys"
    fresh = client.post(keys, json={"overlap": "7d"}).json()
    old, new = client.get(keys).json()["data"]
    assert (old["id"], new["id"]) == (made["keys"][0]["id"], fresh["id"])
    assert old["expires_at"] == fresh["others_expire_at"]
    assert new["expires_at"] is None
    assert directory.by_key(made["write_key"]) is not None
    clock.ahead = timedelta(days=7, seconds=-5)
    assert directory.by_key(made["write_key"]) is not None
    clock.ahead = timedelta(days=7, seconds=1)
    assert directory.by_key(made["write_key"]) is None
    assert directory.by_key(fresh["write_key"]) is not None


def test_others_may_end_at_a_time_and_an_earlier_end_stays(client: TestClient) -> None:
    made = make_source(client)
    keys = f"/v1/sources/{made['id']}/keys"
    soon = now().replace(microsecond=0) + timedelta(hours=1)
    client.post(keys, json={"expire_others_at": format_time(soon)})
    client.post(keys, json={"overlap": "2w"})
    first, second, third = client.get(keys).json()["data"]
    assert parse_time(first["expires_at"]) == soon
    assert parse_time(second["expires_at"]) > soon  # type: ignore[operator]
    assert third["expires_at"] is None
    shown = client.get(f"/v1/sources/{made['id']}").json()
    assert shown["write_key"] == third["write_key"]


def test_a_key_can_be_disabled_enabled_and_given_an_end(
    client: TestClient, directory: SourceDirectory
) -> None:
    made = make_source(client)
    path = f"/v1/sources/{made['id']}/keys/{made['keys'][0]['id']}"
    assert client.patch(path, json={"disabled": True}).json()["active"] is False
    assert directory.by_key(made["write_key"]) is None
    assert client.get(f"/v1/sources/{made['id']}").json()["write_key"] is None
    assert client.patch(path, json={"disabled": False}).json()["active"] is True
    assert directory.by_key(made["write_key"]) is not None
    past = format_time(now() - timedelta(seconds=1))
    assert client.patch(path, json={"expires_at": past}).json()["active"] is False
    assert directory.by_key(made["write_key"]) is None
    assert client.patch(path, json={"expires_at": None}).json()["active"] is True
    assert directory.by_key(made["write_key"]) is not None
    unknown = client.patch(f"/v1/sources/{made['id']}/keys/key_x", json={"disabled": True})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "key_not_found")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"overlap": "soon"}, "/overlap"),
        ({"overlap": "9999999w"}, "/overlap"),
        ({"expire_others_at": "tomorrow"}, "/expire_others_at"),
        ({"expire_others_at": "2030-01-01T00:00:00Z", "overlap": "1d"}, ""),
        ({"others": 1}, "/others"),
    ],
)
def test_a_mistake_in_a_rotation_is_named_and_makes_no_key(
    client: TestClient, body: dict[str, Any], path: str
) -> None:
    made = make_source(client)
    keys = f"/v1/sources/{made['id']}/keys"
    answer = client.post(keys, json=body)
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, path)
    assert len(client.get(keys).json()["data"]) == 1


def test_the_last_use_of_a_key_is_shown_and_survives_an_older_one(
    client: TestClient, directory: SourceDirectory, clock: Clock
) -> None:
    made = make_source(client)
    keys = f"/v1/sources/{made['id']}/keys"
    (key,) = client.get(keys).json()["data"]
    assert key["last_used_at"] is None
    directory.by_key(made["write_key"])
    directory.note_use()
    (key,) = client.get(keys).json()["data"]
    used = key["last_used_at"]
    assert used is not None
    clock.ahead = timedelta(hours=-1)
    directory.by_key(made["write_key"])
    directory.note_use()
    (key,) = client.get(keys).json()["data"]
    assert key["last_used_at"] == used


def test_a_directory_that_follows_writes_the_use_down_by_itself(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdp.ingest.source_directory._NOTE_USE_EVERY_SECONDS", 0.1)
    made = make_source(client)
    following = SourceDirectory(database)
    following.start()
    try:
        following.by_key(made["write_key"])
        deadline = time.monotonic() + 20
        while client.get(f"/v1/sources/{made['id']}").json()["keys"][0]["last_used_at"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        following.close()


def test_a_secret_goes_in_and_never_comes_out(client: TestClient) -> None:
    made = make_source(client, settings={"preset": "shopify", "secret": "shpss_geheim"})
    path = f"/v1/sources/{made['id']}"
    assert made["hook"] == {"path": f"/v1/hooks/{made['id']}", "takes": True}
    changed = client.patch(path, json={"settings": made["settings"] | {"order_scope": "eu"}})
    answers = [made, client.get(path).json(), client.get("/v1/sources").json(), changed.json()]
    assert all("geheim" not in str(answer) for answer in answers)
    assert changed.json()["effective"]["order_scope"] == "eu"
    assert changed.json()["hook"]["takes"] is True
    refused = client.post(
        "/v1/sources", json={"name": "w", "type": "web", "settings": {"links": "known"}}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "public_key")
    assert refused.json()["details"]["path"] == "/settings/links"


def test_a_source_shows_its_preset_beside_its_settings(client: TestClient) -> None:
    made = make_source(client, type="web", settings={"trusted_times": True, "team": "growth"})
    assert made["settings"] == {"trusted_times": True, "team": "growth"}
    assert made["preset"]["trusted_times"] is False
    assert made["effective"]["trusted_times"] is True
    assert made["effective"]["links"] == "anonymous"
    assert made["unknown_settings"] == ["team"]
