"""Decisions by hand in a real Postgres, over HTTP: what they change, and what undoing restores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from cdp.errors import CdpError
from cdp.identity.by_hand_store import Hand
from cdp.identity.rules_store import read_rules
from cdp.model import Identifier
from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.integration.test_identity_routes import make_client
from tests.support.identity_rows import (
    apply,
    apply_stubbornly,
    make_store,
    query,
    rebuilt_partition,
    stored_partition,
)
from tests.support.identity_world import saw

pytestmark = pytest.mark.anyio

A, B, C, C2 = "user_id:a", "user_id:b", "anonymous_id:c", "anonymous_id:c2"
EMAIL, UNION = "email:ann@x", "wechat_unionid:u"
Post = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(database, "profiles:read", "identity:write", "pii:read") as client:
        yield client


@pytest.fixture
def post(client: httpx.AsyncClient) -> Post:
    """Post identifiers to a verb; return the answer, which must be 200."""

    async def post(verb: str, *names: str, reason: str = "a test", **more: Any) -> dict[str, Any]:
        body = {"identifiers": [named(name) for name in names], "reason": reason, **more}
        response = await client.post(f"/v1/identity/{verb}", json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    return post


def named(text: str) -> dict[str, str]:
    kind, _, value = text.partition(":")
    return {"type": kind, "value": value}


def groups(database: Database) -> set[frozenset[str]]:
    """Who is one person now."""
    found: dict[object, set[str]] = {}
    for name, spans in stored_partition(database).owners.items():
        found.setdefault(spans[-1][2], set()).add(str(name))
    return {frozenset(members) for members in found.values()}


def together(*texts: str) -> set[frozenset[str]]:
    return {frozenset(text.split()) for text in texts}


def rebuilt_is_stored(database: Database) -> bool:
    with database.transaction() as connection:
        rules = read_rules(driver(connection), "CN")
    return rebuilt_partition(database, rules) == stored_partition(database)


def changes_told(database: Database) -> list[tuple[object, ...]]:
    return query(
        database,
        """SELECT change, details ->> 'reason', details ->> 'id' FROM profile_changes
            WHERE details ? 'reason' ORDER BY change_no""",
    )


async def test_a_merge_joins_two_people_and_says_so_everywhere(
    database: Database, post: Post
) -> None:
    apply(database, make_store(), saw(f"{A} {C}", 0), saw(f"{UNION} {C2}", 1))
    made = await post("merge", C, C2, reason="same phone call")
    assert groups(database) == together(f"{A} {C} {UNION} {C2}")
    assert query(database, "SELECT profile_id FROM profiles") == [(made["profile_id"],)]
    told = changes_told(database)
    assert told == [("merged_by_hand", "same phone call", made["id"])] * 2, "in both histories"
    actor, action, subject, details = query(
        database, "SELECT actor, action, subject, details FROM audit"
    )[0]
    assert str(actor).startswith("token:")
    assert (action, subject) == ("identity_merge", made["id"])
    assert details == {"reason": "same phone call"}
    last = query(database, "SELECT merges, moved_nodes FROM batches ORDER BY seq DESC LIMIT 1")[0]
    assert [merge["into"] for merge in last[0]] == [made["profile_id"]]  # type: ignore[attr-defined]
    assert len(last[1]) == 2  # type: ignore[arg-type]
    assert rebuilt_is_stored(database)


async def test_a_merge_said_twice_is_one_merge(database: Database, post: Post) -> None:
    apply(database, make_store(), saw(A, 0), saw(UNION, 1))
    first = await post("merge", A, UNION)
    history = query(database, "SELECT count(*) FROM profile_changes")
    assert await post("merge", UNION, A) == first
    assert query(database, "SELECT count(*) FROM profile_changes") == history
    assert query(database, "SELECT count(*) FROM identity_decisions") == [(1,)]


async def test_a_merge_against_a_unique_rule_is_refused_and_leaves_nothing(
    database: Database, client: httpx.AsyncClient
) -> None:
    apply(database, make_store(), saw(f"{A} {C}", 0), saw(f"{B} {C2}", 1))
    body = {"identifiers": [named(C), named(C2)], "reason": "a try"}
    response = await client.post("/v1/identity/merge", json=body)
    assert response.status_code == 409
    assert response.json()["code"] == "unique_conflict"
    assert response.json()["details"] == {"types": ["user_id"]}
    assert query(database, "SELECT count(*) FROM identity_decisions") == [(0,)]
    assert query(database, "SELECT count(*) FROM links WHERE kind <> 'seen'") == [(0,)]
    assert query(database, "SELECT count(*) FROM audit") == [(0,)]


async def test_an_allowed_conflict_is_an_exception_that_later_events_keep(
    database: Database, post: Post
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 0), saw(f"{B} {C2}", 1))
    await post("merge", A, B, allow_unique_conflict=True)
    apply(database, store, saw(f"{B} {C}", 9), saw(f"{A} {EMAIL}", 9))
    assert groups(database) == together(f"{A} {B} {C} {C2} {EMAIL}")
    assert query(database, "SELECT kind FROM links WHERE kind <> 'seen'") == [("exception",)]
    assert rebuilt_is_stored(database)


async def test_an_undone_merge_is_as_if_it_had_never_been(
    database: Database, client: httpx.AsyncClient, post: Post
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 0), saw(f"{UNION} {C2}", 1))
    before = stored_partition(database)
    made = await post("merge", A, UNION)
    undo = f"/v1/identity/undo/{made['id']}"
    for _ in range(2):
        response = await client.post(undo, json={"reason": "a mistake"})
        assert response.json() == {"id": made["id"], "undone": True}
    assert stored_partition(database) == before
    pairs = query(database, "SELECT merges FROM batches ORDER BY seq DESC LIMIT 1")[0][0]
    assert [pair["from"] for pair in pairs] == [made["profile_id"]]  # type: ignore[attr-defined]
    told = [row[0] for row in changes_told(database)]
    assert told == ["merged_by_hand"] * 2 + ["merge_undone"] * 2
    again = await post("merge", A, UNION)
    assert again["id"] != made["id"]


async def test_a_detached_identifier_leaves_and_later_events_do_not_bring_it_back(
    database: Database, post: Post
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {EMAIL} {C}", 0))
    answer = await post("unmerge", EMAIL)
    assert answer["profiles"][0]["type"] == "email"
    apply(database, store, saw(f"{A} {EMAIL} {C2}", 9))
    apply(database, make_store(), saw(f"{A} {EMAIL} {C2}", 10))
    assert groups(database) == together(f"{A} {C} {C2}", EMAIL)
    refused = query(database, "SELECT DISTINCT reason FROM refusals")
    assert refused == [("parted_by_hand",)]
    assert await post("unmerge", EMAIL) == answer
    assert rebuilt_is_stored(database)


async def test_an_undone_unmerge_brings_back_also_what_arrived_since(
    database: Database, client: httpx.AsyncClient, post: Post
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {EMAIL}", 0))
    made = await post("unmerge", EMAIL)
    apply(database, store, saw(f"{EMAIL} {C}", 3))
    assert groups(database) == together(A, f"{EMAIL} {C}")
    await client.post(f"/v1/identity/undo/{made['id']}", json={"reason": "it was right"})
    assert groups(database) == together(f"{A} {EMAIL} {C}")


async def test_unmerging_one_side_of_a_merge_gives_it_back_what_was_its_own(
    database: Database, post: Post
) -> None:
    apply(database, make_store(), saw(f"{A} {C}", 0), saw(f"{UNION} {C2}", 1))
    await post("merge", A, UNION)
    await post("unmerge", UNION)
    assert groups(database) == together(f"{A} {C}", f"{UNION} {C2}")
    assert rebuilt_is_stored(database)


async def test_several_identifiers_unmerged_are_one_person_each(
    database: Database, post: Post
) -> None:
    apply(
        database,
        make_store(),
        saw(f"{A} {C}", 0),
        saw(f"{UNION} {C2}", 1),
        saw(f"{A} {UNION}", 2),
    )
    await post("unmerge", A, UNION)
    assert groups(database) == together(f"{A} {C}", f"{UNION} {C2}")


async def test_there_is_nothing_to_part_in_people_who_are_apart(
    database: Database, client: httpx.AsyncClient
) -> None:
    apply(database, make_store(), saw(A, 0), saw(B, 0))
    for names in ([A], [A, B]):
        body = {"identifiers": [named(name) for name in names], "reason": "a try"}
        response = await client.post("/v1/identity/unmerge", json=body)
        assert (response.status_code, response.json()["code"]) == (409, "nothing_to_part")


async def test_blocking_parts_the_glued_and_unblocking_glues_them_again(
    database: Database, client: httpx.AsyncClient
) -> None:
    phone = "phone:+862112345678"
    store = make_store()
    apply(database, store, *(saw(f"anonymous_id:c{n} {phone}", n) for n in range(4)))
    before = stored_partition(database)
    body = {"type": "phone", "value": "021 1234 5678", "reason": "a shop's landline"}
    made = (await client.post("/v1/identity/block", json=body)).json()
    assert (await client.post("/v1/identity/block", json=body)).json() == made
    assert groups(database) == together(phone, *(f"anonymous_id:c{n}" for n in range(4)))
    assert rebuilt_is_stored(database)
    response = await client.post(f"/v1/identity/undo/{made['id']}", json={"reason": "hers alone"})
    assert response.status_code == 200
    assert stored_partition(database) == before


async def test_events_after_a_block_hang_on_their_other_identifiers_in_every_worker(
    database: Database, client: httpx.AsyncClient
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 0))
    body = {"type": "user_id", "value": "a", "reason": "a test account"}
    assert (await client.post("/v1/identity/block", json=body)).status_code == 200
    homes, _ = apply(database, store, saw(f"{A} {C}", 1), saw(A, 2), saw(f"{A} {EMAIL}", 3))
    ids = dict(query(database, "SELECT type, node_id FROM nodes"))
    assert homes == [ids["anonymous_id"], None, ids["email"]]
    assert groups(database) == together(A, C, EMAIL)
    body["reason"] = "it is somebody after all"
    assert (await client.post("/v1/identity/unblock", json=body)).status_code == 200
    apply(database, store, saw(f"{A} {EMAIL}", 4))
    assert groups(database) == together(f"{A} {C} {EMAIL}")


async def test_a_value_can_be_blocked_before_anybody_sends_it(
    database: Database, client: httpx.AsyncClient
) -> None:
    body = {"type": "email", "value": "Shop@Example.com", "reason": "the shop's own"}
    assert (await client.post("/v1/identity/block", json=body)).status_code == 200
    homes, _ = apply(database, make_store(), saw("email:shop@example.com", 1))
    assert homes == [None]
    assert query(database, "SELECT count(*) FROM nodes") == [(0,)]


async def test_what_names_nobody_or_is_not_known_is_told_by_its_place(
    database: Database, client: httpx.AsyncClient
) -> None:
    apply(database, make_store(), saw(A, 0))
    body = {"identifiers": [named(A), named("user_id:null")], "reason": "a try"}
    response = await client.post("/v1/identity/merge", json=body)
    assert (response.status_code, response.json()["details"]["path"]) == (
        422,
        "/identifiers/1/value",
    )
    body = {"identifiers": [named(A), named("user_id:nobody")], "reason": "a try"}
    response = await client.post("/v1/identity/merge", json=body)
    assert (response.status_code, response.json()["code"]) == (404, "identifier_not_found")
    response = await client.post("/v1/identity/merge", json={"identifiers": [named(A)]})
    assert response.status_code == 422
    response = await client.post("/v1/identity/undo/dec_none", json={"reason": "a try"})
    assert (response.status_code, response.json()["code"]) == (404, "decision_not_found")


async def test_decisions_are_listed_newest_first_with_who_and_why(
    database: Database, client: httpx.AsyncClient, post: Post
) -> None:
    apply(database, make_store(), saw(A, 0), saw(EMAIL, 1), saw(UNION, 1))
    first = await post("merge", A, EMAIL, reason="she said so")
    second = await post("merge", A, UNION, reason="and this")
    await client.post(f"/v1/identity/undo/{second['id']}", json={"reason": "not so"})
    page = (await client.get("/v1/identity/decisions", params={"limit": 1})).json()
    assert page["data"][0]["id"] == second["id"]
    assert page["data"][0]["undone_reason"] == "not so"
    rest = (await client.get("/v1/identity/decisions", params={"cursor": page["next"]})).json()
    assert [row["id"] for row in rest["data"]] == [first["id"]]
    assert rest["data"][0]["reason"] == "she said so"
    assert rest["data"][0]["identifiers"][0] == {"type": "email", "value": "ann@x"}


async def test_only_a_steward_may_decide(database: Database) -> None:
    apply(database, make_store(), saw(A, 0), saw(EMAIL, 1))
    body = {"identifiers": [named(A), named(EMAIL)], "reason": "a try"}
    async with make_client(database, "profiles:read") as reader:
        for verb in ("merge", "unmerge", "undo/dec_1", "block", "unblock"):
            response = await reader.post(f"/v1/identity/{verb}", json=body)
            assert response.status_code == 403
        shown = await reader.get("/v1/identity/decisions")
        assert shown.status_code == 200


async def test_a_merge_shows_in_the_explanation_as_done_by_hand(
    database: Database, client: httpx.AsyncClient, post: Post
) -> None:
    apply(database, make_store(), saw(A, 0), saw(EMAIL, 1))
    made = await post("merge", A, EMAIL)
    told = (await client.get(f"/v1/profiles/{A}/explain", params={"with": EMAIL})).json()
    assert told["same"] is True
    assert [(step["rule"], step["message_id"]) for step in told["path"]] == [
        ("by_hand", made["id"])
    ]


def test_decisions_among_working_workers_lose_nothing_and_wait_for_nobody_for_long(
    database: Database,
) -> None:
    story = [
        saw(f"wechat_unionid:u{n % 12} anonymous_id:c{n % 7} email:e{n % 5}@x", n / 10)
        for n in range(120)
    ]
    apply(database, make_store(), *story[:30])

    def work(part: int) -> None:
        store = make_store()
        for start in range(30 + part, 120, 6):
            apply_stubbornly(database, store, story[start : start + 6 : 2])

    def decide(number: int) -> None:
        name = Identifier("wechat_unionid", f"u{number}")
        verbs: list[Callable[[Hand], object]] = [
            lambda hand: hand.block("email", f"e{number % 5}@x"),
            lambda hand: hand.merge([name, Identifier("wechat_unionid", f"u{number + 1}")]),
            lambda hand: hand.unmerge([name]),
            lambda hand: hand.unblock("email", f"e{number % 5}@x"),
        ]
        for verb in verbs:
            decide_stubbornly(database, verb)

    with ThreadPoolExecutor(4) as pool:
        doing = [pool.submit(work, part) for part in range(2)]
        doing += [pool.submit(decide, number) for number in (1, 3)]
        for done in doing:
            done.result(timeout=120)
    assert rebuilt_is_stored(database)
    assert query(database, "SELECT count(*) FROM identity_decisions") != [(0,)]


def decide_stubbornly(database: Database, verb: Callable[[Hand], object]) -> None:
    """Carry out a decision, again when it met another writer; a refusal is as good."""
    for _ in range(50):
        try:
            with database.transaction() as connection:
                verb(Hand(driver(connection), "CN", "token:test", "a test", now()))
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            continue
        except CdpError:
            return
        return
    raise AssertionError("the decision never went through")
