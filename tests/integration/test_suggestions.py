"""People who may be one: found beside everything else, decided over HTTP, and that binds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.identity.routes import create_router as create_identity_router
from cdp.identity.suggestions import runner as runner_module
from cdp.identity.suggestions.routes import create_router
from cdp.identity.suggestions.runner import SuggestionRunner
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.integration.test_identity_routes import _read_name
from tests.support.duplicates import Town, make_runner
from tests.support.identity_rows import query
from tests.support.identity_world import RULES

pytestmark = pytest.mark.anyio

ANN = {"name": "Ann Lee", "birthday": "1990-04-12", "address": {"city": "Leeds", "street": "9 Elm"}}
WANG = {"name": "王小明", "birthday": "1988-02-03", "城市": "上海"}
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def town(database: Database) -> Town:
    return Town(database)


@pytest.fixture
def runner(database: Database, tmp_path: Path) -> SuggestionRunner:
    return make_runner(database, tmp_path)


def make_client(database: Database, runner: SuggestionRunner, *scopes: str) -> httpx.AsyncClient:
    """Return a client of the routes of identity and suggestions alone."""
    routers = [
        create_identity_router(database, lambda: RULES, _read_name),
        create_router(database, lambda: RULES, runner),
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
        base_url="http://cdp/v1/identity",
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.fixture
async def client(database: Database, runner: SuggestionRunner) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(
        database, runner, "identity:write", "profiles:read", "pii:read"
    ) as client:
        yield client


@pytest.fixture
def search(client: httpx.AsyncClient, runner: SuggestionRunner) -> Ask:
    """Search, then return the open suggestions."""

    async def search() -> list[dict[str, Any]]:
        assert (await client.post("suggestions/run")).status_code == 202
        assert runner.run_next()
        rows: list[dict[str, Any]] = (await client.get("suggestions")).json()["data"]
        return rows

    return search


@pytest.fixture
def decide(client: httpx.AsyncClient) -> Ask:
    """Accept or reject; return the answer's body, which must have this status."""

    async def decide(verb: str, suggestion_id: str, *, status: int = 200, **more: Any) -> Any:
        answer = await client.post(
            f"suggestions/{suggestion_id}/{verb}", json={"reason": "a test", **more}
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    return decide


def names_of(suggestion: dict[str, Any]) -> set[str]:
    return {
        f"{name['type']}:{name['value']}"
        for profile in suggestion["profiles"]
        for name in profile["identifiers"]
    }


def levels_of(suggestion: dict[str, Any]) -> dict[str, str]:
    return {part["field"]: part["level"] for part in suggestion["evidence"]}


async def test_people_in_chinese_and_latin_letters_are_suggested_with_what_speaks_for_it(
    town: Town, search: Ask
) -> None:
    town.add("crm_id:1", **WANG, phone="138 0013 8000")
    town.add("user_id:1", **{**WANG, "name": "Wang Xiaoming", "城市": "上海"})
    town.add("crm_id:2", name="歐陽 修", birthday="1970/1/5", email="ouyang.xiu@a.cn")
    town.add("user_id:2", name="欧阳修", birthday="1970-01-05", email="ouyangxiu@b.cn")
    town.add(
        "crm_id:3", firstName="Ann", lastName="Lee", **{k: ANN[k] for k in ("birthday", "address")}
    )
    town.add("email:ann@x.org", name="Lee, Ann", birthday="1990-12-04", address=ANN["address"])
    town.add("user_id:9", name="Carl Gauss", birthday="1977-04-30", city="Leeds")
    rows = await search()
    found = {frozenset(names_of(row)): levels_of(row) for row in rows}
    assert found == {
        frozenset({"crm_id:1", "user_id:1"}): {
            "name": "same_sound", "birthday": "same", "place": "same_city",
        },
        frozenset({"crm_id:2", "user_id:2"}): {
            "email": "same_local_part", "name": "same", "birthday": "same",
        },
        frozenset({"crm_id:3", "email:ann@x.org"}): {
            "name": "same", "birthday": "one_digit_or_turned", "street": "same",
            "place": "same_city",
        },
    }  # fmt: skip
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    name = next(part for part in rows[0]["evidence"] if part["field"] == "name")
    assert name["weight"] > 0


async def test_one_email_claimed_by_two_people_is_evidence(town: Town, search: Ask) -> None:
    town.add("user_id:a email:ann@x.org", name="Ann Lee")
    town.add("user_id:b email:ann@x.org", name="Ann Lee")
    (row,) = await search()
    assert levels_of(row) == {"email": "same", "name": "same"}
    email = next(part for part in row["evidence"] if part["field"] == "email")
    assert email["a"] == email["b"] == ["ann@x.org"]
    assert row["forbidden_by"] == [{"type": "user_id", "a": ["a"], "b": ["b"]}]


async def test_an_address_that_many_people_give_tells_nobody_apart(town: Town, search: Ask) -> None:
    for number in range(8):
        town.add(f"crm_id:{number}", name=f"Person{number} Other{number}", email="till@shop.org")
    assert await search() == []


async def test_acceptance_is_a_merge_by_hand_and_its_undoing_binds_as_a_rejection(
    town: Town, search: Ask, decide: Ask, client: httpx.AsyncClient, database: Database
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    (row,) = await search()
    accepted = await decide("accept", row["id"])
    assert accepted["status"] == "accepted"
    assert len({profile["id"] for profile in accepted["profiles"]}) == 1
    assert (await decide("accept", row["id"]))["decision_id"] == accepted["decision_id"]
    decisions = (await client.get("decisions")).json()["data"]
    assert [(one["kind"], one["reason"]) for one in decisions] == [("merge", "a test")]
    assert await search() == []

    undo = {"reason": "they are sisters"}
    assert (await client.post(f"undo/{accepted['decision_id']}", json=undo)).status_code == 200
    shown = (await client.get(f"suggestions/{row['id']}")).json()
    assert (shown["status"], shown["reason"]) == ("rejected", "they are sisters")
    assert await search() == []
    actions = [action for (action,) in query(database, "SELECT action FROM audit ORDER BY 1")]
    assert actions.count("identity_suggestion_accepted") == 1


async def test_a_rejection_binds_until_something_new_speaks_against_it(
    town: Town, search: Ask, decide: Ask, client: httpx.AsyncClient
) -> None:
    town.add("user_id:a", **ANN)
    town.add("user_id:b", **ANN)
    (row,) = await search()
    rejected = await decide("reject", row["id"])
    assert (rejected["status"], rejected["reason"]) == ("rejected", "a test")
    assert await search() == []
    town.meet("user_id:a email:ann@x.org")
    town.meet("user_id:b phone:+8613800138000")
    assert await search() == []
    town.meet("user_id:b email:ann@x.org")
    (again,) = await search()
    assert again["id"] == row["id"]
    assert levels_of(again)["email"] == "same"
    rows = (await client.get("suggestions", params={"status": "rejected"})).json()["data"]
    assert rows == []


async def test_a_rejection_follows_its_people_through_merges(
    town: Town, search: Ask, decide: Ask
) -> None:
    town.add("wechat_unionid:0")
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    (row,) = await search()
    await decide("reject", row["id"])
    # Older, so it names them both from now on.
    town.meet("crm_id:1 wechat_unionid:0")
    assert await search() == []


async def test_of_three_alike_a_decision_answers_the_others_too(
    town: Town, search: Ask, decide: Ask, client: httpx.AsyncClient
) -> None:
    for name in ("crm_id:1", "user_id:1", "member_card:1"):
        town.add(name, **ANN)
    rows = await search()
    assert len(rows) == 3

    def pick(*names: str) -> str:
        return next(row["id"] for row in rows if names_of(row) == set(names))

    await decide("reject", pick("crm_id:1", "user_id:1"))
    await decide("accept", pick("user_id:1", "member_card:1"))
    left = (await client.get("suggestions")).json()["data"]
    assert left == []
    answer = await decide("accept", pick("crm_id:1", "member_card:1"))
    assert answer["status"] == "accepted"


async def test_who_is_one_already_is_not_suggested(
    town: Town, search: Ask, decide: Ask, client: httpx.AsyncClient
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    (row,) = await search()
    town.meet("crm_id:1 user_id:1")
    assert (await client.get("suggestions")).json()["data"] == []
    assert (await client.get(f"suggestions/{row['id']}")).json()["status"] == "stale"
    for verb in ("accept", "reject"):
        assert (await decide(verb, row["id"], status=409))["code"] == "suggestion_stale"


async def test_who_was_parted_by_hand_is_not_suggested(
    town: Town, search: Ask, client: httpx.AsyncClient
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    town.meet("crm_id:1 user_id:1")
    both = [{"type": "crm_id", "value": "1"}, {"type": "user_id", "value": "1"}]
    parted = await client.post("unmerge", json={"identifiers": both, "reason": "twins"})
    assert parted.status_code == 200
    assert await search() == []


async def test_what_a_unique_rule_forbids_is_said_and_needs_to_be_allowed(
    town: Town, search: Ask, decide: Ask
) -> None:
    town.add("user_id:1", **ANN)
    town.add("user_id:2", **ANN)
    (row,) = await search()
    assert row["forbidden_by"] == [{"type": "user_id", "a": ["1"], "b": ["2"]}]
    refused = await decide("accept", row["id"], status=409)
    assert refused["code"] == "unique_conflict"
    accepted = await decide("accept", row["id"], allow_unique_conflict=True)
    assert accepted["status"] == "accepted"


async def test_values_are_masked_without_the_scope_and_nothing_is_shown_without_the_other(
    town: Town, search: Ask, database: Database, runner: SuggestionRunner
) -> None:
    town.add("crm_id:1", **ANN, email="ann.lee@x.org")
    town.add("user_id:1", **ANN, phone="13800138000")
    assert len(await search()) == 1
    for scope in ("identity:write", "profiles:read"):
        async with make_client(database, runner, scope) as blind:
            shown = (await blind.get("suggestions")).text
        assert "A***" in shown
        for value in ("Ann", "1990", "Elm", "Leeds", "ann.lee"):
            assert value not in shown
    asked = [("profiles:read", "POST", "suggestions/run"), ("segments:read", "GET", "suggestions")]
    for scope, method, path in asked:
        async with make_client(database, runner, scope) as stranger:
            assert (await stranger.request(method, path)).status_code == 403


async def test_the_queue_holds_no_value_of_anybody(
    town: Town, search: Ask, database: Database
) -> None:
    town.add("crm_id:1", **ANN, email="ann.lee@x.org")
    town.add("user_id:1", **ANN, email="ann.lee@x.org")
    await search()
    ((kept,),) = query(database, "SELECT to_jsonb(s)::text FROM identity_suggestions s")
    for value in ("Ann", "1990", "Elm", "Leeds", "ann.lee"):
        assert value not in str(kept)


async def test_suggestions_are_paged_and_cut_by_score(
    town: Town, search: Ask, client: httpx.AsyncClient
) -> None:
    for number, year in enumerate((1950, 1960, 1970, 1980)):
        for name in ("crm_id", "user_id"):
            town.add(f"{name}:{number}", name=f"Ann{number} Lee{number}", birthday=f"{year}-05-06")
    rows = await search()
    assert len(rows) == 4
    first = (await client.get("suggestions", params={"limit": 3})).json()
    rest = (await client.get("suggestions", params={"cursor": first["next"]})).json()
    assert [row["id"] for row in first["data"] + rest["data"]] == [row["id"] for row in rows]
    assert rest["next"] is None
    none = await client.get("suggestions", params={"min_score": 1})
    assert none.json()["data"] == []


async def test_one_person_is_not_enough_to_compare(
    town: Town, search: Ask, client: httpx.AsyncClient
) -> None:
    town.add("crm_id:1", **ANN)
    assert await search() == []
    run = (await client.get("suggestions/run")).json()
    assert (run["state"], run["people"]) == ("not_enough_data", 1)


async def test_looking_at_the_queue_searches_once_when_people_have_changed(
    town: Town, client: httpx.AsyncClient, runner: SuggestionRunner
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    first = (await client.get("suggestions")).json()
    assert (first["data"], first["run"]["state"]) == ([], "queued")
    assert runner.run_next()
    second = (await client.get("suggestions")).json()
    assert (len(second["data"]), second["run"]["state"]) == (1, "done")
    assert second["run"]["model"] == "priors"
    assert not runner.run_next()


async def test_a_search_that_was_killed_is_begun_anew_and_given_up_after_three(
    town: Town, client: httpx.AsyncClient, runner: SuggestionRunner, database: Database
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    for attempts, state in ((1, "done"), (3, "failed")):
        run = (await client.post("suggestions/run")).json()
        # As a killed process leaves it.
        query(
            database,
            """UPDATE identity_suggestion_runs SET state = 'running', attempts = %s
                WHERE run_id = %s RETURNING 1""",
            attempts,
            run["id"],
        )
        assert runner.run_next()
        assert (await client.get("suggestions/run")).json()["state"] == state


async def test_a_search_that_is_ended_leaves_the_queue_as_it_was(
    town: Town, search: Ask, client: httpx.AsyncClient, runner: SuggestionRunner
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    before = await search()
    await client.post("suggestions/run")
    assert (await client.delete("suggestions/run")).json()["state"] == "cancelled"
    assert not runner.run_next()
    assert (await client.get("suggestions")).json()["data"] == before
    assert (await client.delete("suggestions/run")).status_code == 404


async def test_without_the_extra_it_is_said_what_to_install(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_PARTS", ("a_part_that_is_missing",))
    answer = await client.post("suggestions/run")
    assert answer.status_code == 501
    assert "the extra cdp[suggest]" in answer.json()["message"]
    listed = (await client.get("suggestions")).json()
    assert listed == {"data": [], "next": None, "run": {"state": "not_installed"}}


async def test_nobody_knows_a_suggestion_that_was_never_made(client: httpx.AsyncClient) -> None:
    body = {"reason": "a test"}
    assert (await client.get("suggestions/sug_x")).status_code == 404
    for verb in ("accept", "reject"):
        answer = await client.post(f"suggestions/sug_x/{verb}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "suggestion_not_found")
        assert (await client.post(f"suggestions/sug_x/{verb}", json={})).status_code == 422


async def test_with_a_deleted_node_its_suggestions_go(
    town: Town, search: Ask, database: Database
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    assert len(await search()) == 1
    query(database, "DELETE FROM nodes WHERE type = 'crm_id' RETURNING 1")
    assert query(database, "SELECT 1 FROM identity_suggestions") == []


async def test_a_process_that_ends_leaves_its_search_to_the_next(
    town: Town,
    client: httpx.AsyncClient,
    runner: SuggestionRunner,
    database: Database,
    tmp_path: Path,
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    await client.post("suggestions/run")
    ending = make_runner(database, tmp_path / "ending")
    ending.close()
    assert ending.run_next()
    assert (await client.get("suggestions/run")).json()["state"] == "queued"
    assert runner.run_next()
    assert (await client.get("suggestions/run")).json()["state"] == "done"


async def test_a_schedule_searches_unasked_and_not_before_its_time(
    town: Town, client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    town.add("crm_id:1", **ANN)
    town.add("user_id:1", **ANN)
    hourly = make_runner(database, tmp_path, every=timedelta(hours=1))
    assert hourly.run_next()
    assert not hourly.run_next()
    run = (await client.get("suggestions/run")).json()
    assert (run["state"], run["actor"], run["suggestions"]) == ("done", "schedule", 1)
