"""What callers choose of people, and what is noted of their reading, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cdp.access import routes as access_routes
from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.personal_names import use_choices
from cdp.access.read_audit import ReadAudit, WatchReads
from cdp.access.token_directory import TokenDirectory
from cdp.identity.rules import default_rules
from cdp.included_parts import list_parts
from cdp.profiles import routes, search_routes
from cdp.profiles.profile_names import keep_encoded_slashes
from cdp.receipts import Progress
from cdp.runtime.clock import format_time
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.support.profile_rows import Writer, hour

pytestmark = pytest.mark.anyio


def _normalise(kind: str, value: str) -> str | None:
    return (value.strip().lower() if kind == "email" else value.strip()) or None


@pytest.fixture
def audit(database: Database) -> Iterator[ReadAudit]:
    audit = ReadAudit(database)
    yield audit
    audit.close()


@pytest.fixture
def app(database: Database, audit: ReadAudit) -> Any:
    rules = default_rules("CN")
    tokens = TokenDirectory(database)
    people = routes.People(database, _normalise)
    routers = [
        access_routes.create_router(database, tokens, people.list_ids, audit.flush),
        search_routes.create_router(database, _normalise),
        routes.create_router(database, _normalise, None, list_parts(lambda: rules)),
    ]
    app = FastAPI(redirect_slashes=False)
    app.state.progress = Progress(lambda log: {}, lambda log: {})
    for router in routers:
        app.include_router(router)
    app.add_middleware(WatchReads, keep=audit.keep)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=tokens)
    install_error_answers(app)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = keep_encoded_slashes(scope["path"], scope["raw_path"])
        await app(scope, receive, send)

    return serve


def _client(app: Any, database: Database, *scopes: str) -> httpx.AsyncClient:
    with database.transaction() as connection:
        _, token = tokens_store.create_token(driver(connection), "test", scopes)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://cdp",
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.fixture
async def client(app: Any, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(app, database, "profiles:read", "pii:read") as client:
        yield client


@pytest.fixture
async def blind(app: Any, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(app, database, "profiles:read") as client:
        yield client


@pytest.fixture
async def officer(app: Any, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(app, database, "admin") as client:
        yield client


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database)


def _make_ann(writer: Writer) -> int:
    shop = writer.add_source("shop", "server")
    user = writer.add_node("user_id", "42", first=hour(2), last=hour(9), events=1, sources=(shop,))
    mail = writer.add_node("email", "ann@example.com", first=hour(5), last=hour(5))
    writer.tie(user, mail, joined_at=hour(5))
    writer.add_event(user, hour(2), "m2", kind="identify", properties={"plan": "free"}, source=shop)
    writer.add_event(user, hour(3), "m3", kind="identify",
                     properties={"plan": "pro", "name": "安妮", "a.b": 1}, source=shop)  # fmt: skip
    writer.say(user, "plan", "pro", hour(3), "m3", shop)
    writer.say(user, "name", "安妮", hour(3), "m3", shop)
    writer.say(user, "a.b", 1, hour(3), "m3", shop)
    writer.consent(user, "marketing", False, hour(4), shop)
    return user


async def test_a_caller_has_only_the_members_that_they_ask_for(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    answer = await client.get("/v1/profiles/user_id:42?fields=traits.plan,traits.a.b,version")
    assert answer.json() == {
        "id": "prf_user_id_42",
        "asked_as": "user_id:42",
        "redirected_from": None,
        "traits": {"a.b": 1, "plan": "pro"},
        "version": 2,
    }
    whole = (await client.get("/v1/profiles/user_id:42")).json()
    for name in set(whole) - {"id", "asked_as", "redirected_from"}:
        answer = await client.get("/v1/profiles/user_id:42", params={"fields": name})
        assert answer.json()[name] == whole[name], name
    one = (await client.get("/v1/profiles/user_id:42?fields=traits,traits.plan")).json()
    assert one["traits"] == whole["traits"]


@pytest.mark.parametrize("fields", ["weather", "traits,weather", "events.x", "x.y"])
async def test_a_member_that_there_is_not_is_refused(
    client: httpx.AsyncClient, writer: Writer, fields: str
) -> None:
    _make_ann(writer)
    for path in (f"/v1/profiles/user_id:42?fields={fields}", f"/v1/profiles?fields={fields}"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/fields")
    body = {"identifiers": [], "fields": fields.split(",")}
    assert (await client.post("/v1/profiles/lookup", json=body)).status_code == 422


async def test_one_request_shows_the_whole_person(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    user = _make_ann(writer)
    for number in range(3):
        writer.add_event(user, hour(6 + number), f"e{number}", name="Seen")
    names = "events,orders,tags,segments,history,consent,service"
    body = (await client.get(f"/v1/profiles/user_id:42?include={names}&limit=2")).json()
    assert set(body["included"]) == {
        "events", "orders", "tags", "segments", "history", "service"
    }  # fmt: skip
    assert body["consent"]["marketing"]["granted"] is False
    events = body["included"]["events"]
    assert [one["message_id"] for one in events["data"]] == ["e2", "e1"]
    rest = await client.get(f"/v1/profiles/user_id:42/events?cursor={events['next']}")
    assert [one["message_id"] for one in rest.json()["data"]] == ["e0", "m3", "m2"]
    answer = await client.get("/v1/profiles/user_id:42?include=weather")
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/include")


async def test_a_person_is_shown_as_of_a_former_time(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)

    async def ask(hours: float, **query: str) -> dict[str, Any]:
        at = hour(hours).isoformat()
        answer = await client.get("/v1/profiles/user_id:42", params={"at": at, **query})
        body: dict[str, Any] = answer.json()
        return body

    then = await ask(2.5)
    assert (then["traits"], then["consent"]) == ({"plan": "free"}, {})
    assert [one["value"] for one in then["identifiers"]] == ["42"]
    assert then["at"] == "2026-03-01T10:30:00.000Z"
    assert (await ask(1))["traits"] == {}
    assert (await ask(8))["traits"]["plan"] == "pro"
    assert (await ask(8, fields="events"))["code"] == "not_as_of"


async def test_an_etag_changes_with_consent_and_with_what_is_included(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    user = _make_ann(writer)
    path = "/v1/profiles/user_id:42?include=tags,segments"
    tag = (await client.get(path)).headers["etag"]

    async def ask() -> tuple[int, str]:
        answer = await client.get(path, headers={"If-None-Match": tag})
        return answer.status_code, answer.headers["etag"]

    assert await ask() == (304, tag)
    writer.execute(
        """INSERT INTO tag_values (key, profile_no, profile_id, value, at, version)
           VALUES ('tier', %(no)s, 'prf_user_id_42', '"gold"', now(), 1)""",
        {"no": user},
    )
    status, tag = await ask()
    assert status == 200
    writer.consent(user, "ads", True, hour(6))
    assert (await ask())[0] == 200


async def test_a_contact_in_a_tags_value_is_not_for_everybody(
    client: httpx.AsyncClient, blind: httpx.AsyncClient, writer: Writer
) -> None:
    user = _make_ann(writer)
    writer.execute(
        """INSERT INTO tag_values (key, profile_no, profile_id, value, at, version)
           VALUES ('mail', %(no)s, 'prf_user_id_42', '"ann@example.com"', now(), 1)""",
        {"no": user},
    )
    writer.execute(
        """INSERT INTO tag_changes (change_no, key, profile_no, profile_id, at, cause,
                                    version, value)
           VALUES (1, 'mail', %(no)s, 'prf_user_id_42', %(at)s, 'event', 1, '["ann@example.com"]')
        """,
        {"no": user, "at": hour(1)},
    )
    path = "/v1/profiles/user_id:42"
    for query in ("?include=tags", "/tags", f"/tags?at={format_time(hour(2))}"):
        assert "ann@example.com" in (await client.get(path + query)).text
        masked = (await blind.get(path + query)).text
        assert "a***" in masked, query
        assert "ann@" not in masked, query


async def test_a_look_up_gives_chosen_members_too(
    client: httpx.AsyncClient, blind: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    names = [{"type": "user_id", "value": "42"}, {"type": "user_id", "value": "nobody"}]
    body = {"identifiers": names, "fields": ["traits.name", "version"]}
    rows = (await client.post("/v1/profiles/lookup", json=body)).json()["data"]
    assert rows[0]["profile"] == {
        "id": "prf_user_id_42", "traits": {"name": "安妮"}, "version": 2
    }  # fmt: skip
    assert (rows[1]["profile_id"], rows[1]["profile"]) == (None, None)
    masked = (await blind.post("/v1/profiles/lookup", json=body)).json()["data"]
    assert masked[0]["profile"]["traits"] == {"name": "安***"}


async def test_people_are_found_by_beginnings_by_identifiers_and_within_names(
    client: httpx.AsyncClient, blind: httpx.AsyncClient, writer: Writer
) -> None:
    user = _make_ann(writer)
    bob = writer.add_node("user_id", "421")
    writer.say(bob, "name", "欧阳小明", hour(1), "m")
    writer.say(bob, "city", "上海市", hour(1), "m")
    writer.say(user, "city", "上饶", hour(1), "m")

    async def find(**query: str) -> list[str]:
        answer = await client.get("/v1/profiles", params=query)
        return [row["id"].removeprefix("prf_user_id_") for row in answer.json()["data"]]

    assert await find(**{"trait.city^": "上"}) == ["42", "421"]
    assert await find(**{"trait.city^": "上海"}) == ["421"]
    assert await find(**{"trait.city": "上海"}) == []
    assert await find(q="小明") == ["421"]
    assert await find(q="阳小") == ["421"]
    assert await find(q="妮") == ["42"]
    assert await find(**{"identifier.user_id": "42"}) == ["42"]
    assert await find(**{"identifier.user_id^": "42"}) == ["42", "421"]
    assert await find(**{"identifier.email": " ANN@example.com"}) == ["42"]
    assert await find(**{"identifier.email": " "}) == []
    assert await find(**{"identifier.email^": "ann", "trait.city^": "上海"}) == []
    for query in ({"identifier.email^": "ann"}, {"trait.name^": "安"}):
        assert (await blind.get("/v1/profiles", params=query)).status_code == 403
    rows = (await client.get("/v1/profiles?q=小明&fields=traits.city")).json()["data"]
    assert rows == [{"id": "prf_user_id_421", "traits": {"city": "上海市"}}]


async def test_a_standard_trait_is_found_under_each_of_its_usual_names(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    for value, trait, text in (
        ("1", "firstName", "Ann"),
        ("2", "first_name", "Ann"),
        ("3", "名", "Ann"),
        ("4", "First-Name", "Bob"),
        ("5", "nick_name", "Ann"),
    ):
        writer.say(writer.add_node("user_id", value), trait, text, hour(1), "m")
        writer.execute(
            "INSERT INTO trait_names VALUES (%(name)s, 1, now(), now())", {"name": trait}
        )

    async def find(**query: str) -> list[str]:
        answer = await client.get("/v1/profiles", params=query)
        return [row["id"].removeprefix("prf_user_id_") for row in answer.json()["data"]]

    for name in ("first_name", "firstName", "名", "fname"):
        assert await find(**{f"trait.{name}": "Ann"}) == ["1", "2", "3"]
    assert await find(**{"trait.given-name^": "B"}) == ["4"]
    assert await find(**{"trait.nick_name": "Ann"}) == ["5"]
    assert await find(**{"trait.nickName": "Ann"}) == []


async def test_another_name_is_passed_over_for_who_may_not_see_it(
    blind: httpx.AsyncClient, writer: Writer
) -> None:
    writer.say(writer.add_node("user_id", "1"), "sex", "f", hour(1), "m")
    writer.execute("INSERT INTO trait_names VALUES ('sex', 1, now(), now())")
    assert len((await blind.get("/v1/profiles?trait.gender=f")).json()["data"]) == 1
    use_choices({"sex": True})
    try:
        assert (await blind.get("/v1/profiles?trait.gender=f")).json()["data"] == []
    finally:
        use_choices({})


async def test_lists_are_paged_and_stay_right_while_rows_come_and_go(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    user = _make_ann(writer)
    for number in range(5):
        writer.tie(user, writer.add_node("crm_id", f"c{number}"))
    found: list[str] = []
    cursor = ""
    while True:
        path = f"/v1/profiles/user_id:42/identifiers?limit=2{cursor}"
        body = (await client.get(path)).json()
        found += [one["value"] for one in body["data"]]
        writer.tie(user, writer.add_node("aaa", f"late{len(found)}"))
        if body["next"] is None:
            break
        cursor = f"&cursor={body['next']}"
    assert found == [*(f"c{number}" for number in range(5)), "ann@example.com", "42"]


async def test_who_read_whose_personal_values_is_in_the_audit(
    client: httpx.AsyncClient, blind: httpx.AsyncClient, officer: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    await client.get("/v1/profiles/email:ann@example.com")
    await client.get("/v1/profiles/user_id:42/events")
    await client.get("/v1/profiles?q=安")
    names = [{"type": "user_id", "value": "42"}]
    await client.post("/v1/profiles/lookup", json={"identifiers": names})
    await client.get("/v1/profiles/user_id:nobody")
    await blind.get("/v1/profiles/user_id:42")
    rows = (await officer.get("/v1/audit?action=personal_read")).json()["data"]
    told = [(row["subject"], row["details"]) for row in rows]
    assert told == [
        ("people", {"route": "/v1/profiles", "count": 1}),
        ("prf_user_id_42", {"route": "/v1/profiles/{p}/events"}),
        ("prf_user_id_42", {"route": "/v1/profiles/{p}"}),
    ]
    assert len({row["actor"] for row in rows}) == 1
    assert "ann@example.com" not in str(rows)


async def test_the_audit_is_filtered_by_person_actor_and_time_and_paged(
    client: httpx.AsyncClient, officer: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    bob = writer.add_node("user_id", "7")
    assert bob
    for name in ("user_id:42", "user_id:7", "user_id:42"):
        await client.get(f"/v1/profiles/{name}/traits")

    async def ask(**query: str) -> list[str]:
        body = (await officer.get("/v1/audit", params=query)).json()
        return [row["subject"] for row in body["data"]]

    ann = "prf_user_id_42"
    assert await ask(profile="email:ann@example.com", action="personal_read") == [ann, ann]
    # A former id of hers.
    writer.execute(
        """INSERT INTO audit (actor, action, subject)
           VALUES ('token:x', 'personal_read', 'prf_email_ann@example.com')"""
    )
    assert await ask(profile=ann) == ["prf_email_ann@example.com", ann, ann]
    assert await ask(actor="token:x") == ["prf_email_ann@example.com"]
    assert await ask(profile=ann, to="2020-01-01") == []
    assert await ask(profile=ann, **{"from": "2020-01-01"}, limit="1") == [
        "prf_email_ann@example.com"
    ]
    assert (await officer.get("/v1/audit?from=soon")).status_code == 422
    assert (await client.get("/v1/audit")).status_code == 403


async def test_reads_are_written_when_the_process_ends(
    client: httpx.AsyncClient, audit: ReadAudit, writer: Writer
) -> None:
    _make_ann(writer)
    await client.get("/v1/profiles/user_id:42")
    assert writer.execute("SELECT count(*) FROM audit") == [(0,)]
    audit.close()
    assert writer.execute("SELECT count(*) FROM audit") == [(1,)]
