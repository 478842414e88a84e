"""Changes of profiles: whoever applies them in order has what the database has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.access.tokens_store import create_token
from cdp.profiles import feed_routes, feed_store
from cdp.receipts import Progress
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.support.privacy_desk import PrivacyWorld

Change = dict[str, Any]


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    world = PrivacyWorld(database, tmp_path)
    yield world
    world.close()


@pytest.fixture
def client(world: PrivacyWorld) -> TestClient:
    router = feed_routes.create_router(world.database)
    app = FastAPI()
    app.state.progress = Progress(lambda log: {}, lambda log: {})
    app.include_router(router)
    tokens = TokenDirectory(world.database)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=tokens)
    install_error_answers(app)
    with world.database.transaction() as connection:
        _, token = create_token(driver(connection), "test", ["profiles:read"])
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


def _identify(user: str, message: str, at: str, **traits: Any) -> dict[str, Any]:
    return {
        "type": "identify", "userId": user, "messageId": message, "traits": traits,
        "timestamp": f"2026-03-01T{at}:00Z",
    }  # fmt: skip


def _read(client: TestClient, since: str | None = None, **query: Any) -> tuple[list[Change], str]:
    found: list[Change] = []
    while True:
        given = {"since": since} if since else {}
        body = client.get("/v1/profiles/changes", params={**given, **query}).json()
        found += body["data"]
        since = body["next"]
        if not body["data"]:
            return found, since


def _kinds(changes: list[Change]) -> list[str]:
    return [one["change"] for one in changes]


def test_a_person_is_created_and_what_they_say_is_named_without_its_value(
    world: PrivacyWorld, client: TestClient
) -> None:
    world.send([_identify("42", "m1", "08:00", plan="platinum", city="上海")])
    changes, _ = _read(client)
    assert _kinds(changes) == ["created", "identifiers", "traits"]
    assert len({one["profile_id"] for one in changes}) == 1
    assert changes[2]["traits"] == ["city", "plan"]
    assert "platinum" not in str(changes)
    assert "上海" not in str(changes)


def test_saying_the_same_again_is_no_change(world: PrivacyWorld, client: TestClient) -> None:
    world.send([_identify("42", "m1", "08:00", plan="pro", city="上海")])
    _, cursor = _read(client)
    world.send([_identify("42", "m2", "09:00", plan="pro", city="上海")])
    assert _read(client, cursor)[0] == []
    world.send([_identify("42", "m3", "10:00", plan="free", city="上海")])
    changes, cursor = _read(client, cursor)
    assert [(one["change"], one["traits"]) for one in changes] == [("traits", ["plan"])]
    world.send([_identify("42", "m4", "09:30", plan="late")])
    assert _read(client, cursor)[0] == []


def test_a_merge_says_who_went_where_and_what_is_different_now(
    world: PrivacyWorld, client: TestClient
) -> None:
    world.send([
        {"type": "identify", "anonymousId": "a", "messageId": "m1", "traits": {"plan": "free"},
         "timestamp": "2026-03-01T08:00:00Z"},
        _identify("42", "m2", "09:00", city="上海"),
    ])  # fmt: skip
    first, cursor = _read(client)
    old = {one["profile_id"] for one in first}
    assert len(old) == 2
    world.send([{"type": "identify", "anonymousId": "a", "userId": "42", "messageId": "m3",
                 "timestamp": "2026-03-01T10:00:00Z"}])  # fmt: skip
    changes, _ = _read(client, cursor)
    assert _kinds(changes) == ["merged", "identifiers", "traits"]
    merged = changes[0]
    assert {merged["profile_id"], merged["into"]} == old
    assert changes[1]["profile_id"] == changes[2]["profile_id"] == merged["into"]
    assert changes[2]["traits"] == ["city"]


def test_a_withdrawn_consent_is_named_by_its_purpose(
    world: PrivacyWorld, client: TestClient
) -> None:
    def agree(message: str, at: str, answer: bool) -> dict[str, Any]:
        consent = {"categoryPreferences": {"marketing": answer}}
        return {**_identify("42", message, at), "context": {"consent": consent}}

    world.send([agree("m1", "08:00", True)])
    _, cursor = _read(client)
    world.send([agree("m2", "09:00", False)])
    changes, _ = _read(client, cursor)
    assert [(one["change"], one["purposes"]) for one in changes] == [("consent", ["marketing"])]


def test_of_somebody_deleted_nothing_is_told_but_that(
    world: PrivacyWorld, client: TestClient
) -> None:
    world.send([_identify("42", "m1", "08:00", plan="pro"), _identify("7", "m2", "08:00")])
    first, cursor = _read(client)
    ann = next(one["profile_id"] for one in first if one["change"] == "traits")
    world.do("delete", "user_id:42")
    changes, _ = _read(client, cursor)
    assert [(one["change"], one["profile_id"]) for one in changes] == [("deleted", ann)]
    assert set(changes[0]) == {"change", "profile_id", "at"}
    from_the_start, _ = _read(client)
    assert [one["change"] for one in from_the_start if one["profile_id"] == ann] == ["deleted"]
    assert _count_orphans(world.database) == 0


def _count_orphans(database: Database) -> int:
    """People who are gone and of whom digests are kept all the same."""
    with database.transaction() as connection:
        row = (
            driver(connection)
            .execute(
                """SELECT count(*) FROM profile_feed_told t
                WHERE NOT EXISTS (SELECT FROM profiles p WHERE p.profile_no = t.profile_no)"""
            )
            .fetchone()
        )
    assert row is not None
    return int(row[0])


def test_only_the_wanted_kinds_are_listed_and_the_cursor_passes_the_others(
    world: PrivacyWorld, client: TestClient
) -> None:
    world.send([_identify(f"u{n}", f"m{n}", "08:00", plan="pro") for n in range(5)])
    changes, cursor = _read(client, types="traits,deleted", limit=2)
    assert _kinds(changes) == ["traits"] * 5
    assert _read(client, cursor)[0] == []
    answer = client.get("/v1/profiles/changes?types=weather")
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/types")


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_of_any_size_give_each_change_once_in_one_order(
    world: PrivacyWorld, client: TestClient, limit: int
) -> None:
    world.send([_identify(f"u{n}", f"m{n}", "08:00", plan="pro") for n in range(6)])
    whole, _ = _read(client, limit=1000)
    assert len(whole) == 18
    assert _read(client, limit=limit)[0] == whole


def test_latest_begins_with_what_happens_from_now_on(
    world: PrivacyWorld, client: TestClient
) -> None:
    world.send([_identify("1", "m1", "08:00", plan="pro")])
    body = client.get("/v1/profiles/changes?since=latest").json()
    assert body["data"] == []
    world.send([_identify("1", "m2", "09:00", plan="free")])
    assert _kinds(_read(client, body["next"])[0]) == ["traits"]


def test_a_cursor_past_retention_is_gone_rather_than_wrong(
    world: PrivacyWorld, client: TestClient
) -> None:
    _, before = _read(client)
    world.send([_identify("1", "m1", "08:00", plan="pro")])
    _, after = _read(client)
    assert sum(feed_store.drop_feed_before(world.database, now())) == 2
    answer = client.get("/v1/profiles/changes", params={"since": before})
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")
    assert client.get("/v1/profiles/changes", params={"since": after}).status_code == 200
    assert client.get("/v1/profiles/changes").json()["data"] == []
    assert client.get("/v1/profiles/changes?since=nonsense").status_code == 422


def test_a_copy_kept_by_changes_is_what_the_database_has(
    world: PrivacyWorld, client: TestClient
) -> None:
    """Random traffic with merges and a deletion; the copy reads again only what it was told of."""
    choose = random.Random(7)
    copy: dict[str, Any] = {}
    cursor: str | None = None
    for turn in range(12):
        events = []
        for n in range(6):
            user, device = choose.randrange(8), choose.randrange(8)
            event = _identify(f"u{user}", f"m{turn}-{n}", f"{choose.randrange(10, 24)}:00")
            event["traits"] = {choose.choice(["plan", "city"]): choose.randrange(3)}
            if choose.random() < 0.5:
                event["anonymousId"] = f"a{device}"
            if choose.random() < 0.3:
                del event["userId"]
                event["anonymousId"] = f"a{device}"
            events.append(event)
        world.send(events)
        if turn == 8:
            world.do("delete", "user_id:u1")
        if choose.random() < 0.6:
            cursor = _follow(world.database, client, copy, cursor)
    _follow(world.database, client, copy, cursor)
    assert copy == _read_all(world.database)
    assert copy


def _follow(
    database: Database, client: TestClient, copy: dict[str, Any], cursor: str | None
) -> str:
    changes, cursor = _read(client, cursor, limit=5)
    there = _read_all(database)
    for one in changes:
        profile_id = one["profile_id"]
        match one["change"]:
            case "created" | "parted":
                copy.setdefault(profile_id, {"identifiers": [], "traits": {}})
            case "merged" | "deleted":
                copy.pop(profile_id, None)
            case "identifiers":
                copy[profile_id]["identifiers"] = there[profile_id]["identifiers"]
            case "traits":
                for name in one["traits"]:
                    copy[profile_id]["traits"].pop(name, None)
                    if name in there[profile_id]["traits"]:
                        copy[profile_id]["traits"][name] = there[profile_id]["traits"][name]
    return cursor


def _read_all(database: Database) -> dict[str, Any]:
    people: dict[str, Any] = {}
    with database.transaction() as connection:
        tx = driver(connection)
        for (profile_id,) in tx.execute(
            """SELECT profile_id FROM profiles p
                WHERE NOT EXISTS (SELECT FROM node_profiles np JOIN nodes n USING (node_id)
                                   WHERE np.profile_no = p.profile_no AND n.variant = 'erased')"""
        ):
            people[profile_id] = {"identifiers": [], "traits": {}}
        for profile_id, node_id in tx.execute(
            """SELECT p.profile_id, np.node_id FROM profiles p JOIN node_profiles np
                USING (profile_no) ORDER BY np.node_id"""
        ):
            if profile_id in people:
                people[profile_id]["identifiers"].append(node_id)
        for profile_id, name, value in tx.execute(
            """SELECT p.profile_id, t.name, t.value::text
                 FROM profiles p JOIN node_profiles np USING (profile_no)
                 JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
                ORDER BY t.at, t.message_id COLLATE "C", t.source_number"""
        ):
            people[profile_id]["traits"][name] = value
    return people
