"""Other rules: how they are put, and how the people of before follow."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cdp.current_rules import CurrentRules
from cdp.identity.apply_rules_store import apply_next
from cdp.identity.by_hand_store import Hand
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules
from cdp.storage.database import Database, driver
from tests.integration.test_identity_by_hand import groups, rebuilt_is_stored
from tests.integration.test_identity_routes import make_client
from tests.support.identity_rows import apply, make_store, query, stored_partition
from tests.support.identity_world import START, saw

pytestmark = pytest.mark.anyio

A, B, C, EMAIL = "user_id:a", "user_id:b", "anonymous_id:c", "email:ann@x"
PATH = "/v1/identity/rules"


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(database, "profiles:read", "identity:write") as client:
        yield client


def apply_all(database: Database, *, max_nodes: int = 2000, most: int = 1000) -> int:
    """Apply the rules to the people of before, in at most so many pieces; return how many."""
    for pieces in range(most):
        with database.transaction() as connection:
            if not apply_next(driver(connection), "CN", START, max_nodes=max_nodes):
                return pieces
    return most


def current(database: Database) -> Rules:
    with database.transaction() as connection:
        return read_rules(driver(connection), "CN")


async def put(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """Change members of the document; ``types`` are merged into those that are there."""
    document = (await client.get(PATH)).json()
    for name, members in changes.pop("types", {}).items():
        document["types"][name].update(members)
    response = await client.put(PATH, json={**document, **changes})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_rules_are_put_whole_under_a_new_version_and_all_versions_are_kept(
    database: Database, client: httpx.AsyncClient
) -> None:
    old = (await client.get(PATH)).json()
    new = await put(client, hot_limit=7)
    assert (new["version"], new["hot_limit"]) == (2, 7)
    assert (await client.get(PATH)).json() == new
    back = await put(client, **{**old, "version": 2})
    assert back == {**old, "version": 3}
    versions = (await client.get(f"{PATH}/versions")).json()["data"]
    assert [(row["version"], row["state"]) for row in versions] == [
        (3, "applying"),
        (2, "superseded"),
    ]
    assert versions[1]["rules"] == new
    audit = query(database, "SELECT action, subject FROM audit ORDER BY audit_id")
    assert audit == [("identity_rules_changed", "2"), ("identity_rules_changed", "3")]


async def test_whoever_read_an_older_version_is_told_so(client: httpx.AsyncClient) -> None:
    document = (await client.get(PATH)).json()
    await put(client, hot_limit=7)
    response = await client.put(PATH, json={**document, "hot_limit": 9})
    assert (response.status_code, response.json()["code"]) == (409, "version_conflict")
    assert response.json()["details"] == {"version": 2}
    assert (await client.get(PATH)).json()["hot_limit"] == 7


async def test_the_same_rules_once_more_are_no_new_version(client: httpx.AsyncClient) -> None:
    document = (await client.get(PATH)).json()
    assert (await client.put(PATH, json=document)).json() == document


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"hot_limit": 1}, "/hot_limit"),
        ({"types": {"a/b": {"priority": "high"}}}, "/types/a~1b/priority"),
        (
            {"types": {"email": {"blocked_patterns": ["^x", "("]}}},
            "/types/email/blocked_patterns/1",
        ),
        ({"version": None}, "/version"),
    ],
)
async def test_a_mistake_in_the_rules_is_told_by_its_place(
    client: httpx.AsyncClient, change: dict[str, Any], path: str
) -> None:
    document = {**(await client.get(PATH)).json(), **change}
    response = await client.put(PATH, json=document)
    assert response.status_code == 422
    assert response.json()["details"]["path"] == path


async def test_a_type_made_unique_parts_those_who_have_two_and_rollback_joins_them_again(
    database: Database, client: httpx.AsyncClient
) -> None:
    seen = [saw(f"email:{n}@x {C}{i}", i) for i in range(4) for n in ("a", "b")]
    apply(database, make_store(), *(saw(f"{A}{i} wechat_unionid:u{i} {C}{i}", i) for i in range(4)))
    apply(database, make_store(), *seen)
    apply(database, make_store(), saw(f"wechat_unionid:other {A}0", 9))
    before = stored_partition(database)
    old = (await client.get(PATH)).json()
    await put(client, types={"wechat_unionid": {"unique": True}})
    apply_all(database)
    alone = {frozenset({"wechat_unionid:other"})}
    assert alone <= groups(database)
    assert rebuilt_is_stored(database)
    shown = (await client.get(f"{PATH}/versions")).json()["data"][0]
    assert (shown["state"], shown["profiles_changed"]) == ("applied", 2)
    await put(client, **{**old, "version": 2})
    apply_all(database)
    assert stored_partition(database) == before


async def test_a_higher_limit_lets_a_hot_identifier_tie_people_together_again(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    for n in range(8):
        apply(database, store, saw(f"anonymous_id:c{n} email:e{n}@x phone:+862112345678", n))
    assert query(database, "SELECT type FROM nodes WHERE quarantined") == [("phone",)]
    assert len(groups(database)) == 9
    await put(client, hot_limit=20)
    apply_all(database)
    assert len(groups(database)) == 1
    assert rebuilt_is_stored(database)
    apply(database, store, saw("anonymous_id:new phone:+862112345678", 20))
    assert len(groups(database)) == 1
    await put(client, hot_limit=3)
    apply_all(database)
    assert len(groups(database)) == 10
    assert rebuilt_is_stored(database)


async def test_an_application_killed_half_way_goes_on_where_it_was_while_workers_work(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    for n in range(6):
        apply(database, store, saw(f"wechat_unionid:u{n} {EMAIL}{n} {C}{n}", n))
        apply(database, store, saw(f"wechat_unionid:v{n} {EMAIL}{n}", n))
    await put(client, types={"wechat_unionid": {"unique": True}})
    _apply_and_die(database, pieces=4, max_nodes=4)
    shown = (await client.get(f"{PATH}/versions")).json()["data"][0]
    assert (shown["state"], shown["components"]) == ("applying", 3)
    apply(database, store, saw(f"wechat_unionid:w0 {EMAIL}5", 9), saw(f"{C}0 {C}5", 9))
    assert apply_all(database, max_nodes=4) >= 2
    assert rebuilt_is_stored(database)
    assert frozenset({"wechat_unionid:v3"}) in groups(database)


async def test_newer_rules_take_over_from_a_change_that_is_under_way(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    for n in range(6):
        apply(database, store, saw(f"wechat_unionid:u{n} {EMAIL}{n}", n))
        apply(database, store, saw(f"wechat_unionid:v{n} {EMAIL}{n}", n))
    old = (await client.get(PATH)).json()
    before = stored_partition(database)
    await put(client, types={"wechat_unionid": {"unique": True}})
    apply_all(database, max_nodes=3, most=3)
    await put(client, **{**old, "version": 2})
    apply_all(database)
    assert stored_partition(database) == before


async def test_a_worker_takes_over_new_rules_with_its_next_batch_or_when_it_looks(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    apply(database, store, saw(A, 0))
    await put(client, hot_limit=7)
    apply(database, store, saw(A, 1))
    assert store.rules.hot_limit == 7
    await put(client, hot_limit=8)
    with database.snapshot() as connection:
        store.look_for_rules(driver(connection))
    assert store.rules == current(database)


def test_a_process_that_blocks_an_identifier_finds_nobody_by_it_at_once(
    database: Database,
) -> None:
    rules = CurrentRules(database, "CN")
    assert rules.normalise("email", "Shop@x.cn") == "shop@x.cn"
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "the shop's own", START)
        hand.block("email", "shop@x.cn")
    rules.forget()
    assert rules.normalise("email", "Shop@x.cn") is None


async def test_only_a_steward_may_change_the_rules(database: Database) -> None:
    async with make_client(database, "profiles:read") as reader:
        document = (await reader.get(PATH)).json()
        assert (await reader.put(PATH, json=document)).status_code == 403


async def test_the_status_says_how_many_components_have_followed_the_rules(
    database: Database, client: httpx.AsyncClient
) -> None:
    status = (await client.get(f"{PATH}/status")).json()
    assert (status["version"], status["state"]) == (1, "applied")
    _post_pairs(database, 6)
    await put(client, types={"wechat_unionid": {"unique": True}})
    status = (await client.get(f"{PATH}/status")).json()
    assert (status["state"], status["components"]) == ("applying", {"done": 0, "total": None})
    apply_all(database, max_nodes=3, most=3)
    status = (await client.get(f"{PATH}/status")).json()
    assert (status["state"], status["components"]) == ("applying", {"done": 2, "total": 6})
    apply_all(database)
    status = (await client.get(f"{PATH}/status")).json()
    assert (status["state"], status["components"]) == ("applied", {"done": 6, "total": 6})
    assert (status["profiles_changed"], status["applied_at"] is None) == (12, False)


async def test_a_rollback_brings_a_former_document_and_its_people_back(
    database: Database, client: httpx.AsyncClient
) -> None:
    _post_pairs(database, 3)
    before, old = stored_partition(database), (await client.get(PATH)).json()
    await put(client, types={"wechat_unionid": {"unique": True}})
    apply_all(database)
    await put(client, hot_limit=9)
    for version, expected in ((2, 3), (1, 4)):
        answer = await client.post(f"{PATH}/rollback", json={"version": version})
        assert (answer.status_code, answer.json()["version"]) == (200, expected + 1)
    assert answer.json() == {**old, "version": 5}
    apply_all(database)
    assert stored_partition(database) == before
    again = await client.post(f"{PATH}/rollback", json={"version": 1})
    assert again.json()["version"] == 5
    audit = query(database, "SELECT details FROM audit ORDER BY audit_id DESC LIMIT 1")
    assert audit == [({"back_to": 1},)]


async def test_a_rollback_to_rules_that_never_were_is_not_found(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post(f"{PATH}/rollback", json={"version": 7})
    assert (answer.status_code, answer.json()["code"]) == (404, "version_not_found")


def _apply_and_die(database: Database, *, pieces: int, max_nodes: int) -> None:
    """Commit so many pieces in a process that is killed in the middle of the next."""
    program = [sys.executable, "-m", "tests.support.apply_rules_and_die"]
    done = subprocess.run(
        [*program, database.url, str(pieces), str(max_nodes)],
        timeout=60, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def _post_pairs(database: Database, count: int) -> None:
    store = make_store()
    for n in range(count):
        apply(database, store, saw(f"wechat_unionid:u{n} {EMAIL}{n}", n))
        apply(database, store, saw(f"wechat_unionid:v{n} {EMAIL}{n}", n))
