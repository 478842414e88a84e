"""Dry-runs foretell what the rules will do; hot identifiers are seen before they hurt."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cdp.identity import dry_run_store
from cdp.ingest.sources_store import create_source
from cdp.storage.database import Database, driver
from tests.integration.test_identity_by_hand import groups
from tests.integration.test_identity_routes import make_client
from tests.integration.test_identity_rules import PATH, apply_all, put
from tests.support.identity_rows import apply, make_store, query, stored_partition
from tests.support.identity_world import saw

pytestmark = pytest.mark.anyio

A, EMAIL = "user_id:a", "email:ann@x"
PHONE = "phone:+862112345678"


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(database, "profiles:read", "identity:write", "pii:read") as client:
        yield client


async def _dry_run(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    document = (await client.get(PATH)).json()
    for name, members in changes.pop("types", {}).items():
        document["types"][name].update(members)
    response = await client.post("/v1/identity/dry-run", json={"rules": {**document, **changes}})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def _post_couples(database: Database, count: int) -> None:
    store = make_store()
    for n in range(count):
        apply(database, store, saw(f"wechat_unionid:u{n} {EMAIL}{n}", n))
        apply(database, store, saw(f"wechat_unionid:v{n} {EMAIL}{n}", n))


async def test_a_dry_run_counts_who_would_part_shows_some_and_changes_nothing(
    database: Database, client: httpx.AsyncClient
) -> None:
    _post_couples(database, 22)
    before = stored_partition(database)
    told = await _dry_run(client, types={"wechat_unionid": {"unique": True}})
    assert (told["would_part"], told["would_join"]) == (22, 0)
    assert len(told["examples"]["part"]) == 20
    example = told["examples"]["part"][0]
    assert len(example["profiles"]) == 1
    assert sorted(len(person) for person in example["people"]) == [1, 2]
    assert stored_partition(database) == before
    assert (await client.get(PATH)).json()["version"] == 1
    await put(client, types={"wechat_unionid": {"unique": True}})
    apply_all(database)
    assert len(groups(database)) == len({str(one) for one in before.owners.values()}) + 22


async def test_a_dry_run_takes_the_rules_as_they_were_read_or_within_a_body(
    database: Database, client: httpx.AsyncClient
) -> None:
    _post_couples(database, 2)
    document = (await client.get(PATH)).json()
    document["types"]["wechat_unionid"]["unique"] = True
    within = await client.post("/v1/identity/dry-run", json={"rules": document})
    bare = await client.post("/v1/identity/dry-run", json=document)
    assert bare.status_code == 200, bare.text
    assert bare.json() == within.json()
    assert bare.json()["would_part"] == 2
    document["types"]["email"]["limit"] = "x"
    wrong = await client.post("/v1/identity/dry-run", json=document)
    assert wrong.status_code == 422
    assert wrong.json()["details"]["path"] == "/types/email/limit"


async def test_a_dry_run_counts_who_would_join(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    for n in range(8):
        apply(database, store, saw(f"anonymous_id:c{n} email:e{n}@x {PHONE}", n))
    told = await _dry_run(client, hot_limit=20)
    assert (told["would_part"], told["would_join"]) == (0, 1)
    assert len(told["examples"]["join"][0]["profiles"]) == 9
    assert query(database, "SELECT count(*) FROM nodes WHERE quarantined") == [(1,)]


async def test_the_same_rules_would_change_nobody(
    database: Database, client: httpx.AsyncClient
) -> None:
    _post_couples(database, 3)
    apply(database, make_store(), saw(f"{A} anonymous_id:c", 0), saw("user_id:b anonymous_id:c", 1))
    told = await _dry_run(client)
    assert (told["would_part"], told["would_join"]) == (0, 0)
    assert told["components"] == 4


async def test_a_mistake_in_tried_rules_is_told_by_its_place(client: httpx.AsyncClient) -> None:
    rules = {"types": {"email": {"priority": "high"}}}
    response = await client.post("/v1/identity/dry-run", json={"rules": rules})
    assert response.status_code == 422
    assert response.json()["details"]["path"] == "/rules/types/email/priority"


async def test_identifiers_seen_with_most_people_are_listed_with_those_that_are_hot(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    for n in range(8):
        apply(database, store, saw(f"user_id:u{n} {PHONE}", n))
    for n in range(3):
        apply(database, store, saw(f"user_id:w{n} device_id:till", n))
    apply(database, store, saw(f"{A} anonymous_id:own", 1))
    answer = (await client.get("/v1/identity/hot")).json()
    shown = [(row["type"], row["people"], row["quarantined"]) for row in answer["data"]]
    assert shown == [("phone", 8, True), ("device_id", 3, False)]
    assert answer["hot_limit"] == 5
    body = {"type": "device_id", "value": "till", "reason": "the shop's tablet"}
    await client.post("/v1/identity/block", json=body)
    answer = (await client.get("/v1/identity/hot")).json()
    assert [row["blocked"] for row in answer["data"]] == [False, True]


async def test_hot_identifiers_are_masked_for_who_may_not_see_personal_values(
    database: Database,
) -> None:
    store = make_store()
    apply(database, store, *(saw(f"user_id:u{n} {PHONE}", n) for n in range(3)))
    async with make_client(database, "profiles:read") as blind:
        answer = (await blind.get("/v1/identity/hot")).json()
        assert "2345678" not in str(answer)
        assert (await blind.post("/v1/identity/dry-run", json={})).status_code == 403


async def test_an_identifier_near_the_limit_is_shown_before_it_hurts_with_whom_it_was_seen(
    database: Database, client: httpx.AsyncClient
) -> None:
    with database.transaction() as connection:
        source, _ = create_source(driver(connection), "till", "store", {})
    store = make_store()
    seen = [saw(f"user_id:u{n} {PHONE}", n, source=source.number) for n in range(3)]
    apply(database, store, *seen, saw(f"{A} {EMAIL}", 1), saw(f"user_id:b {EMAIL}", 2))
    warned, normal = (await client.get("/v1/identity/hot")).json()["data"]
    assert (warned["level"], warned["people"]) == ("warning", 3)
    assert warned["sources"] == [source.source_id]
    assert (warned["first_seen"][:10], warned["last_seen"][:10]) == ("2026-01-01", "2026-01-03")
    assert {one["value"] for one in warned["examples"]} == {"u0", "u1", "u2"}
    assert (normal["type"], normal["level"], normal["people"]) == ("email", "normal", 2)


async def test_a_stream_tells_of_the_progress_and_ends_with_the_plain_answer(
    database: Database, client: httpx.AsyncClient
) -> None:
    _post_couples(database, 3)
    document = (await client.get(PATH)).json()
    document["types"]["wechat_unionid"]["unique"] = True
    plain = (await client.post("/v1/identity/dry-run", json={"rules": document})).json()
    for asked, media, cut in (
        ({"params": {"stream": "true"}}, "application/x-ndjson", 0),
        ({"headers": {"Accept": "application/x-ndjson"}}, "application/x-ndjson", 0),
        ({"headers": {"Accept": "text/event-stream"}}, "text/event-stream", len("data: ")),
    ):
        told = await client.post("/v1/identity/dry-run", json={"rules": document}, **asked)
        assert told.headers["content-type"].startswith(media)
        *progress, last = [json.loads(line[cut:]) for line in told.text.split("\n") if line]
        assert last == {"result": plain}
        shares = [one["progress"]["share"] for one in progress]
        assert shares == sorted(shares)
        assert shares[-1] == 1
        assert progress[-1]["progress"]["would_part"] == 3


async def test_a_mistake_is_told_before_a_stream_begins(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"rules": {"types": {}, "hot_limit": 0}}
    told = await client.post("/v1/identity/dry-run?stream=true", json=body)
    assert (told.status_code, told.json()["code"]) == (422, "invalid_rules")
    told = await client.post("/v1/identity/dry-run", json={})
    assert (told.status_code, told.json()["details"]["path"]) == (422, "/rules")
    body = {"block": [{"type": "email", "value": "nothing"}]}
    told = await client.post("/v1/identity/dry-run", json=body)
    assert (told.status_code, told.json()["details"]["path"]) == (422, "/block/0/value")


async def test_a_block_and_its_undoing_can_be_tried(
    database: Database, client: httpx.AsyncClient
) -> None:
    _post_couples(database, 3)
    email = {"type": "email", "value": "Ann@x1"}
    body = {"block": [email]}
    told = (await client.post("/v1/identity/dry-run", json=body)).json()
    assert (told["would_part"], told["would_join"], told["components"]) == (1, 0, 1)
    people = told["examples"]["part"][0]["people"]
    assert people == [[{"type": "wechat_unionid", "value": name}] for name in ("u1", "v1")]
    before = stored_partition(database)
    await client.post("/v1/identity/block", json={**email, "reason": "the shop's own"})
    assert len(groups(database)) == 5
    told = (await client.post("/v1/identity/dry-run", json={"unblock": [email]})).json()
    assert (told["would_part"], told["would_join"]) == (0, 1)
    await client.post("/v1/identity/unblock", json={**email, "reason": "it is not"})
    assert stored_partition(database) == before


async def test_unblocking_a_hot_identifier_is_foretold_with_everybody_it_would_tie(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    for n in range(8):
        apply(database, store, saw(f"anonymous_id:c{n} email:e{n}@x {PHONE}", n))
    phone = {"type": "phone", "value": PHONE.removeprefix("phone:")}
    await client.post("/v1/identity/block", json={**phone, "reason": "the shop's own"})
    await put(client, hot_limit=20)
    apply_all(database)
    told = (await client.post("/v1/identity/dry-run", json={"unblock": [phone]})).json()
    assert (told["would_part"], told["would_join"]) == (0, 1)
    await client.post("/v1/identity/unblock", json={**phone, "reason": "it is not"})
    assert len(groups(database)) == 1


async def test_what_would_be_one_component_beyond_all_measure_is_left_out_and_said(
    database: Database, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    for n in range(8):
        apply(database, store, saw(f"anonymous_id:c{n} email:e{n}@x {PHONE}", n))
    monkeypatch.setattr(dry_run_store, "_MOST_TIED_NODES", 10)
    told = await _dry_run(client, hot_limit=20)
    # Eight people, and the number that once tied them together.
    assert (told["would_join"], told["too_large"]) == (0, 9)


async def test_what_glues_people_whom_no_rule_keeps_apart_is_warned_of_all_the_same(
    database: Database, client: httpx.AsyncClient
) -> None:
    apply(database, make_store(), *(saw(f"wechat_unionid:u{n} {PHONE}", n) for n in range(9)))
    (row,) = (await client.get("/v1/identity/hot")).json()["data"]
    assert (row["type"], row["level"], row["people"]) == ("phone", "warning", 9)
