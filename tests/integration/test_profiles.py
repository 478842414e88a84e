"""People read over HTTP from a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from cdp import receipts
from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.accounts.account import AccountSaid, MemberSaid
from cdp.accounts.accounts_store import PlacedAccount, write_accounts
from cdp.orders import routes as order_routes
from cdp.orders.order import Line, Refund, Report
from cdp.orders.orders_store import PlacedReport, write_reports
from cdp.profiles import routes, search_routes
from cdp.profiles.profile_names import keep_encoded_slashes, restore_slashes
from cdp.receipts import Progress
from cdp.runtime.clock import format_time, now
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from tests.support.profile_rows import START, Writer, hour

pytestmark = pytest.mark.anyio


def _normalise(kind: str, value: str) -> str | None:
    return (value.strip().lower() if kind == "email" else value.strip()) or None


def _read_positions(database: Database, log: str) -> dict[int, int]:
    with database.transaction() as connection:
        rows = driver(connection).execute(
            "SELECT partition, next_offset FROM positions WHERE log = %s", (log,)
        )
        return {int(row[0]): int(row[1]) for row in rows}


def _build(database: Database) -> Any:
    progress = Progress(lambda log: _read_positions(database, log), lambda log: {})
    routers = [
        search_routes.create_router(database, _normalise),
        routes.create_router(database, _normalise),
        order_routes.create_router(
            database, routes.People(database, _normalise).find_number, restore_slashes
        ),
        receipts.create_router(progress),
    ]
    app = FastAPI(redirect_slashes=False)
    app.state.progress = progress
    for router in routers:
        app.include_router(router)
    tokens = TokenDirectory(database)
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
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may read people and see personal values."""
    async with _client(_build(database), database, "profiles:read", "pii:read") as client:
        yield client


@pytest.fixture
async def blind(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may read people but not see personal values."""
    async with _client(_build(database), database, "profiles:read") as client:
        yield client


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database)


def _make_ann(writer: Writer) -> int:
    """Ann: a visitor who logged in, with an e-mail; two sources, four events."""
    web, shop = writer.add_source("web"), writer.add_source("shop", "server")
    visitor = writer.add_node(
        "anonymous_id", "a1", first=hour(0), last=hour(5), events=3, sources=(web,)
    )
    user = writer.add_node("user_id", "42", first=hour(2), last=hour(9), events=1, sources=(shop,))
    mail = writer.add_node("email", "ann@example.com", first=hour(2), last=hour(2), sources=(shop,))
    writer.tie(visitor, user, mail, joined_at=hour(2))
    writer.say(visitor, "plan", "free", hour(1), "m1", web)
    writer.say(user, "plan", "pro", hour(3), "m3", shop)
    writer.say(user, "email", "ann@example.com", hour(2), "m2", shop)
    writer.say(user, "name", "安妮", hour(2), "m2", shop)
    writer.say(user, "gone", None, hour(2), "m2", shop)
    writer.consent(visitor, "marketing", True, hour(1), web)
    writer.consent(user, "marketing", False, hour(4), shop)
    return visitor


async def test_a_profile_is_shown_with_all_that_is_known(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    answer = await client.get("/v1/profiles/email:ann@example.com")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "prf_anonymous_id_a1",
        "asked_as": "email:ann@example.com",
        "redirected_from": None,
        "identifiers": [
            {
                "type": "anonymous_id",
                "value": "a1",
                "first_seen": "2026-03-01T08:00:00.000Z",
                "last_seen": "2026-03-01T13:00:00.000Z",
                "sources": ["web"],
            },
            {
                "type": "email",
                "value": "ann@example.com",
                "first_seen": "2026-03-01T10:00:00.000Z",
                "last_seen": "2026-03-01T10:00:00.000Z",
                "sources": ["shop"],
            },
            {
                "type": "user_id",
                "value": "42",
                "first_seen": "2026-03-01T10:00:00.000Z",
                "last_seen": "2026-03-01T17:00:00.000Z",
                "sources": ["shop"],
            },
        ],
        "name": "安妮",
        "traits": {"email": "ann@example.com", "name": "安妮", "plan": "pro"},
        "accounts": [],
        "first_seen": "2026-03-01T08:00:00.000Z",
        "last_seen": "2026-03-01T17:00:00.000Z",
        "events": 4,
        "orders": 0,
        "net_revenue": [],
        "consent": {
            "marketing": {"granted": False, "at": "2026-03-01T12:00:00.000Z", "source": "shop"}
        },
        "version": 2,
        "first_touch": None,
        "last_touch": None,
        "service": {
            "open_tickets": 0,
            "tickets": 0,
            "open_complaints": 0,
            "last_nps": None,
            "last_nps_at": None,
        },
    }


async def test_every_identifier_leads_to_the_same_person_normalised_on_the_way(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    for name in ("anonymous_id:a1", "user_id:42", "email:%20Ann%40Example.com", "id:prf_email_x"):
        answer = await client.get(f"/v1/profiles/{name}")
        wanted = 404 if "prf_email_x" in name else 200
        assert answer.status_code == wanted, name


async def test_an_old_profile_id_answers_with_the_current_profile(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    old = (await client.get("/v1/profiles/id:prf_user_id_42")).json()
    assert (old["id"], old["redirected_from"]) == ("prf_anonymous_id_a1", "prf_user_id_42")
    current = (await client.get("/v1/profiles/id:prf_anonymous_id_a1")).json()
    assert current["redirected_from"] is None


@pytest.mark.parametrize(
    "name", ["email:bob@example.com", "id:prf_nobody", "nonsense", "email:%20"]
)
@pytest.mark.parametrize(
    "tail", ["", "/traits", "/events", "/orders", "/identifiers", "/segments", "/tags"]
)
async def test_nobody_is_not_found(client: httpx.AsyncClient, name: str, tail: str) -> None:
    answer = await client.get(f"/v1/profiles/{name}{tail}")
    assert (answer.status_code, answer.json()["code"]) == (404, "profile_not_found")


async def test_an_identifier_with_a_slash_is_found(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    writer.add_node("user_id", "a/b", first=hour(0))
    answer = await client.get(f"/v1/profiles/{quote('user_id:a/b', safe='')}")
    assert answer.json()["asked_as"] == "user_id:a/b"
    answer = await client.get(f"/v1/profiles/{quote('user_id:a/b', safe='')}/identifiers")
    assert answer.json()["data"][0]["value"] == "a/b"


async def test_personal_values_are_masked_without_the_scope(
    blind: httpx.AsyncClient, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    writer.add_event(
        visitor, hour(1), "m1", name="Signed Up", properties={"email": "ann@example.com"},
        context={"traits": {"email": "ann@example.com"}},
    )  # fmt: skip
    for tail in ("", "/traits", "/identifiers", "/events", "/traits?provenance=true"):
        answer = await blind.get(f"/v1/profiles/user_id:42{tail}")
        assert answer.status_code == 200
        assert "ann@example.com" not in answer.text
        assert "安妮" not in answer.text
    shown = (await blind.get("/v1/profiles/user_id:42")).json()
    assert shown["traits"] == {"email": "a***", "name": "安***", "plan": "pro"}


async def test_a_profile_has_a_tag_that_changes_with_it(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    first = await client.get("/v1/profiles/user_id:42")
    again = await client.get(
        "/v1/profiles/user_id:42", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    writer.execute("UPDATE profiles SET version = 9 WHERE profile_no = %(no)s", {"no": visitor})
    changed = await client.get(
        "/v1/profiles/user_id:42", headers={"If-None-Match": first.headers["etag"]}
    )
    assert changed.status_code == 200
    assert changed.headers["etag"].startswith('"9-')


async def test_each_trait_says_where_it_comes_from(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    rows = (await client.get("/v1/profiles/user_id:42/traits?provenance=true")).json()["data"]
    assert [row["name"] for row in rows] == ["email", "name", "plan"]
    assert rows[2] == {
        "name": "plan",
        "value": "pro",
        "source": "shop",
        "source_id": "src_shop",
        "at": "2026-03-01T11:00:00.000Z",
        "message_id": "m3",
    }
    plain = (await client.get("/v1/profiles/user_id:42/traits")).json()["data"]
    assert plain[2] == {"name": "plan", "value": "pro"}


async def test_traits_can_be_asked_for_as_of_any_time_and_with_their_history(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    user = writer.add_node("user_id", "7")
    for hours, plan in ((1, "free"), (2, "pro"), (3, None)):
        traits = {"plan": plan}
        writer.add_event(user, hour(hours), f"m{hours}", kind="identify", properties=traits)
    writer.say(user, "plan", None, hour(3), "m3")
    at = "/v1/profiles/user_id:7/traits?at="
    for hours, expected in ((0.5, []), (1, ["free"]), (2.5, ["pro"]), (4, [])):
        rows = (await client.get(at + format_time(hour(hours)))).json()["data"]
        assert [row["value"] for row in rows] == expected
    rows = (await client.get("/v1/profiles/user_id:7/traits?history=true")).json()["data"]
    assert [(row["value"], row["message_id"]) for row in rows] == [
        (None, "m3"), ("pro", "m2"), ("free", "m1"),
    ]  # fmt: skip


async def test_what_is_said_for_later_does_not_count_yet(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    user = writer.add_node("user_id", "7")
    later = now() + timedelta(hours=2)
    consent = {"consent": {"categoryPreferences": {"marketing": True}}}
    writer.add_event(
        user, hour(1), "m1", kind="identify", properties={"plan": "free"}, context=consent
    )
    consent = {"consent": {"categoryPreferences": {"marketing": False}}}
    writer.add_event(
        user, later, "m2", kind="identify", properties={"plan": "pro"}, context=consent
    )
    writer.say(user, "plan", "pro", later, "m2")
    writer.consent(user, "marketing", False, later)
    shown = (await client.get("/v1/profiles/user_id:7")).json()
    assert shown["traits"] == {"plan": "free"}
    assert shown["consent"]["marketing"]["granted"] is True


async def test_a_bad_time_is_named(client: httpx.AsyncClient, writer: Writer) -> None:
    _make_ann(writer)
    for query, path in (
        ("traits?at=soon", "/at"),
        ("events?from=x", "/from"),
        ("events?to=x", "/to"),
    ):
        answer = await client.get(f"/v1/profiles/user_id:42/{query}")
        assert (answer.status_code, answer.json()["details"]["path"]) == (422, path)


async def test_the_timeline_is_paged_in_either_order_while_events_arrive(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    user = int(writer.execute("SELECT node_id FROM nodes WHERE type = 'user_id'")[0][0])
    for number in range(10):
        writer.add_event((visitor, user)[number % 2], hour(number // 3), f"m{number}", name="Seen")
    for order, expected in (("asc", range(10)), ("desc", reversed(range(10)))):
        names = await _read_pages(client, writer, f"user_id:42/events?order={order}", visitor)
        assert [name for name in names if name.startswith("m")] == [f"m{n}" for n in expected]


async def _read_pages(client: httpx.AsyncClient, writer: Writer, path: str, node: int) -> list[str]:
    names: list[str] = []
    cursor = ""
    while True:
        answer = await client.get(f"/v1/profiles/{path}&limit=3{cursor}")
        body = answer.json()
        names += [event["message_id"] for event in body["data"]]
        # Newer and older events than the page arrive in between.
        writer.add_event(node, hour(50), f"x{len(names)}", name="Late")
        writer.add_event(node, hour(-50), f"y{len(names)}", name="Late")
        if body["next"] is None or len(names) > 40:
            return names
        cursor = f"&cursor={body['next']}"


async def test_the_timeline_is_filtered_by_event_and_time(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    writer.add_event(visitor, hour(1), "m1", name="Seen")
    writer.add_event(visitor, hour(2), "m2", name="Bought")
    writer.add_event(visitor, hour(3), "m3", kind="page", name="Home")
    writer.add_event(visitor, hour(4), "m4", kind="identify")

    async def ask(query: str) -> list[str]:
        body = (await client.get(f"/v1/profiles/anonymous_id:a1/events?order=asc&{query}")).json()
        return [event["message_id"] for event in body["data"]]

    assert await ask("") == ["m1", "m2", "m3", "m4"]
    assert await ask("event=Bought") == ["m2"]
    assert await ask("event=page") == ["m3"]
    assert await ask("event=Home") == []
    window = f"from={format_time(hour(2))}&to={format_time(hour(4))}"
    assert await ask(window) == ["m2", "m3"]


async def test_an_event_is_shown_whole(client: httpx.AsyncClient, writer: Writer) -> None:
    source = writer.add_source("web")
    node = writer.add_node("user_id", "7")
    writer.add_event(
        node, hour(1), "m1", kind="page", name="Home", properties={"n": 1.5}, source=source
    )
    event = (await client.get("/v1/profiles/user_id:7/events")).json()["data"][0]
    assert event.pop("received_at").endswith("Z")
    assert event == {
        "message_id": "m1",
        "source_id": "src_web",
        "source": "web",
        "type": "page",
        "event": "page",
        "timestamp": "2026-03-01T09:00:00.000Z",
        "original_timestamp": None,
        "group_id": None,
        "properties": {"name": "Home", "n": 1.5},
        "context": {},
    }


async def test_a_shared_device_gives_each_person_their_own_time(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    tablet = writer.add_node("anonymous_id", "tablet", first=hour(0), last=hour(9), events=3)
    ann = writer.add_node("user_id", "ann", first=hour(2), last=hour(4))
    nobody = writer.add_node("anonymous_id", "tablet", variant="shared", first=hour(0))
    writer.execute("DELETE FROM node_profiles WHERE node_id = %(n)s", {"n": tablet})
    writer.execute("DELETE FROM profiles WHERE profile_no = %(n)s", {"n": tablet})
    for since, until, person in (
        ("-infinity", hour(2), nobody), (hour(2), hour(5), ann), (hour(5), "infinity", nobody),
    ):  # fmt: skip
        writer.execute(
            "INSERT INTO node_profiles VALUES (%(n)s, %(since)s, %(until)s, %(p)s)",
            {"n": tablet, "since": since, "until": until, "p": person},
        )
    for hours in (1, 3, 6):
        writer.add_event(tablet, hour(hours), f"m{hours}", name="Seen")
    writer.say(tablet, "lang", "zh", hour(3), "m3")
    bob = writer.add_node("user_id", "bob")
    writer.execute(
        """INSERT INTO refusals (component_id, link_id, node_a, node_b, reason, at)
           SELECT component_id, 1, %(bob)s, node_id, 'unique_conflict', %(at)s
             FROM nodes WHERE node_id = %(tablet)s""",
        {"bob": bob, "tablet": tablet, "at": hour(5)},
    )

    shown = (await client.get("/v1/profiles/user_id:ann")).json()
    assert (shown["events"], shown["traits"]) == (1, {"lang": "zh"})
    assert [i["type"] for i in shown["identifiers"]] == ["user_id"]
    events = (await client.get("/v1/profiles/user_id:ann/events")).json()["data"]
    assert [event["message_id"] for event in events] == ["m3"]

    shared = (await client.get("/v1/profiles/anonymous_id:tablet")).json()
    assert (shared["id"], shared["events"]) == ("prf_anonymous_id_tabletshared", 2)
    assert [i["value"] for i in shared["identifiers"]] == ["tablet"]
    assert "also_claimed_by" not in shared["identifiers"][0]
    assert shared["last_seen"] == format_time(hour(6))


async def test_orders_count_when_something_remains_after_refunds(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    user = int(writer.execute("SELECT node_id FROM nodes WHERE type = 'user_id'")[0][0])
    for number, currency, total, refunded in (
        (1, "CNY", 129900, 0), (2, "CNY", 5000, 5000), (3, "USD", 700, 200), (4, "CNY", 0, 900),
    ):  # fmt: skip
        writer.execute(
            """INSERT INTO orders (scope, order_id, node_id, status, currency, total, refunded,
                                   placed_at, updated_at, document)
               VALUES ('', %(id)s, %(node)s, 'paid', %(currency)s, %(total)s, %(refunded)s,
                       %(at)s, %(at)s, '{}')""",
            {
                "id": str(number),
                "node": user,
                "currency": currency,
                "total": total,
                "refunded": refunded,
                "at": hour(3),
            },
        )
    shown = (await client.get("/v1/profiles/email:ann@example.com")).json()
    assert shown["orders"] == 2
    assert shown["net_revenue"] == [
        {"amount": 129000, "currency": "CNY"},
        {"amount": 500, "currency": "USD"},
    ]


async def test_orders_are_listed_newest_first_in_pages(
    client: httpx.AsyncClient, database: Database, writer: Writer
) -> None:
    node = writer.add_node("user_id", "7")
    for number in range(3):
        report = Report(
            f"o{number}",
            "record",
            hour(number),
            f"m{number}",
            placed_at=hour(number),
            status="paid",
            currency="CNY",
            total=700,
            tax=5,
            lines=(Line("tea", quantity=1, price=700),),
            refunds=(Refund("r", 200),),
        )
        with database.transaction() as connection:
            write_reports(driver(connection), [PlacedReport("", 1, node, report)], "CNY")
    first = (await client.get("/v1/profiles/user_id:7/orders?limit=2")).json()
    rest = (
        await client.get(f"/v1/profiles/user_id:7/orders?limit=2&cursor={first['next']}")
    ).json()
    assert [order["order_id"] for order in first["data"] + rest["data"]] == ["o2", "o1", "o0"]
    assert rest["next"] is None

    def cny(amount: int) -> dict[str, Any]:
        return {"amount": amount, "currency": "CNY"}

    at = format_time(hour(0))
    assert rest["data"][0] == {
        "order_id": "o0",
        "status": "paid",
        "currency": "CNY",
        "placed_at": at,
        "updated_at": at,
        "total": cny(700),
        "refunded": cny(200),
        "net": cny(500),
        "discount": None,
        "tax": cny(5),
        "shipping": None,
        "store": None,
        "channel": None,
        "lines": [{"sku": "tea", "name": None, "category": None, "quantity": 1, "price": cny(700)}],
        "refunds": [{"refund_id": "r", "amount": cny(200), "at": None}],
    }


async def test_first_and_last_touch_are_the_visits_that_something_brought(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    inner = {"page": {"url": "https://shop.cn/a", "referrer": "https://shop.cn/"}}
    search = {"page": {"url": "https://shop.cn/", "referrer": "https://search.example/?q=tea"}}
    campaign = {"campaign": {"source": "wechat", "name": "spring"}, "page": {"url": "https://x/"}}
    for hours, context in ((0, inner), (1, search), (2, inner), (3, campaign), (4, {})):
        writer.add_event(visitor, hour(hours), f"m{hours}", kind="page", context=context)
    shown = (await client.get("/v1/profiles/user_id:42")).json()
    first, last = shown["first_touch"], shown["last_touch"]
    assert (first["message_id"], first["referrer"]) == ("m1", "https://search.example/?q=tea")
    assert first["source"] is None
    assert (last["message_id"], last["source"], last["campaign"]) == ("m3", "wechat", "spring")
    assert last["at"] == format_time(hour(3))


async def test_a_person_shows_the_accounts_they_belong_to_now(
    client: httpx.AsyncClient, database: Database, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    said = [
        ("华为", hour(1), MemberSaid(True)),
        ("acme", hour(1), MemberSaid(True, "buyer", True)),
        ("acme", hour(2), MemberSaid(True)),
        ("left", hour(1), MemberSaid(True, "payer", True)),
        ("left", hour(2), MemberSaid(False)),
        ("not yet", now() + timedelta(hours=1), MemberSaid(True)),
    ]
    with database.transaction() as connection:
        for number, (account, at, member) in enumerate(said):
            placed = PlacedAccount(AccountSaid(account, at, f"m{number}"), 0, [(visitor, member)])
            write_accounts(driver(connection), [placed])
    accounts = [
        {"account_id": "acme", "role": "buyer"},
        {"account_id": "华为", "role": None},
    ]
    shown = (await client.get("/v1/profiles/user_id:42")).json()
    assert shown["accounts"] == accounts
    listed = (await client.get("/v1/profiles/user_id:42/accounts")).json()
    assert listed == {"data": accounts, "next": None}


async def test_a_plus_sign_in_a_time_need_not_be_encoded(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    visitor = _make_ann(writer)
    writer.add_event(visitor, hour(1), "m1", name="Seen")
    path = "/v1/profiles/user_id:42/events?from=2026-03-01T00:00:00+08:00"
    assert len((await client.get(path)).json()["data"]) == 1


async def test_a_refused_claim_is_shown_on_the_contact(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    bob = writer.add_node("user_id", "bob")
    writer.execute(
        """INSERT INTO refusals (component_id, link_id, node_a, node_b, reason, at)
           SELECT component_id, 1, %(bob)s, node_id, 'unique_conflict', %(at)s
             FROM nodes WHERE type = 'email'""",
        {"bob": bob, "at": hour(4)},
    )
    shown = (await client.get("/v1/profiles/user_id:42")).json()["identifiers"]
    claimed = {i["type"]: i.get("also_claimed_by") for i in shown}
    assert claimed == {"anonymous_id": None, "email": ["prf_user_id_bob"], "user_id": None}


async def test_segments_and_tags_of_a_person_are_listed(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    writer.execute(
        "INSERT INTO segments (key, name, rule, version) VALUES ('vip', 'VIP', '{\"all\": []}', 3)"
    )
    writer.execute(
        """INSERT INTO memberships (segment, profile_no, profile_id, entered_at, version)
           VALUES ('vip', 1, 'prf_anonymous_id_a1', %(at)s, 3)""",
        {"at": START},
    )
    writer.execute(
        """INSERT INTO tag_values (key, profile_no, profile_id, value, at, version)
           VALUES ('rfm', 1, 'prf_anonymous_id_a1', '{"r": 5}', %(at)s, 1)""",
        {"at": START},
    )
    segments = (await client.get("/v1/profiles/user_id:42/segments")).json()["data"]
    at = "2026-03-01T08:00:00.000Z"
    assert segments == [{"segment": "vip", "name": "VIP", "entered_at": at, "version": 3}]
    tags = (await client.get("/v1/profiles/user_id:42/tags")).json()["data"]
    assert tags == [{"key": "rfm", "value": {"r": 5}, "at": at, "version": 1}]


async def test_a_look_up_answers_in_the_order_asked_and_makes_nobody(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    asked = [
        {"type": "email", "value": "ANN@example.com"},
        {"type": "email", "value": "bob@example.com"},
        {"type": "email", "value": " "},
        {"type": "user_id", "value": "42"},
        {"type": "id", "value": "prf_email_ann@example.com"},
    ]
    before = writer.execute("SELECT count(*) FROM nodes")
    answer = await client.post("/v1/profiles/lookup", json={"identifiers": asked})
    ann = "prf_anonymous_id_a1"
    assert [row["profile_id"] for row in answer.json()["data"]] == [ann, None, None, ann, ann]
    assert writer.execute("SELECT count(*) FROM nodes") == before


async def test_a_look_up_of_more_than_five_hundred_is_refused(client: httpx.AsyncClient) -> None:
    asked = [{"type": "user_id", "value": str(number)} for number in range(501)]
    answer = await client.post("/v1/profiles/lookup", json={"identifiers": asked})
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/identifiers")
    answer = await client.post("/v1/profiles/lookup", json={"identifiers": asked[:500]})
    assert len(answer.json()["data"]) == 500


async def _find(client: httpx.AsyncClient, **query: str) -> list[str]:
    answer = await client.get("/v1/profiles", params=query)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["data"]]


async def test_people_are_found_by_traits_and_by_the_beginning_of_words(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    bob = writer.add_node("email", "bob@example.com")
    writer.say(bob, "name", "Bob Miller", hour(1), "m")
    writer.say(bob, "city", "上海", hour(1), "m")
    writer.say(bob, "age", 41, hour(1), "m")
    writer.say(bob, "address", {"zip": "200000"}, hour(1), "m")
    bob_id = "prf_email_bob@example.com"
    assert await _find(client, **{"trait.city": "上海"}) == [bob_id]
    assert await _find(client, **{"trait.age": "41"}) == [bob_id]
    assert await _find(client, **{"trait.address.zip": "200000"}) == [bob_id]
    assert await _find(client, **{"trait.city": "上海", "trait.age": "42"}) == []
    assert await _find(client, q="mil") == [bob_id]
    assert await _find(client, q="BOB@") == [bob_id]
    assert await _find(client, q="ann") == ["prf_anonymous_id_a1"]
    assert await _find(client, q="%") == []
    # The visitor's older value does not make her a free customer.
    assert await _find(client, **{"trait.plan": "free"}) == []
    assert await _find(client, **{"trait.plan": "pro"}) == ["prf_anonymous_id_a1"]


async def test_a_search_is_paged(client: httpx.AsyncClient, writer: Writer) -> None:
    for number in range(5):
        node = writer.add_node("user_id", str(number))
        writer.say(node, "plan", "pro" if number != 2 else "free", hour(1), "m")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        query = {"trait.plan": "pro", "limit": "2", **cursor}
        body = (await client.get("/v1/profiles", params=query)).json()
        found += [row["id"] for row in body["data"]]
        if body["next"] is None:
            break
        cursor = {"cursor": body["next"]}
    assert found == [f"prf_user_id_{number}" for number in (0, 1, 3, 4)]


async def test_guessing_at_masked_values_by_search_is_refused(
    blind: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    answer = await blind.get("/v1/profiles", params={"trait.email": "ann@example.com"})
    assert (answer.status_code, answer.json()["details"]) == (403, {"missing": ["pii:read"]})
    assert await _find(blind, q="ann") == []
    assert await _find(blind, q="42") == ["prf_anonymous_id_a1"]


@pytest.mark.parametrize("cursor", ["x", "W10", "bm90IGpzb24"])
async def test_a_foreign_cursor_is_refused(
    client: httpx.AsyncClient, writer: Writer, cursor: str
) -> None:
    _make_ann(writer)
    for path in (
        f"/v1/profiles?cursor={cursor}",
        f"/v1/profiles/user_id:42/events?cursor={cursor}",
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")


async def test_a_read_after_a_receipt_waits_for_the_write(
    client: httpx.AsyncClient, writer: Writer
) -> None:
    _make_ann(writer)
    receipt = receipts.encode("postgres", {0: 7})
    path = f"/v1/profiles/user_id:42?after={receipt}&wait=50ms"
    early = await client.get(path)
    assert (early.status_code, early.json()["code"]) == (503, "not_yet")
    assert early.headers["retry-after"] == "1"
    writer.execute("INSERT INTO positions VALUES ('postgres', 0, 8)")
    assert (await client.get(path)).status_code == 200
    answer = await client.get(f"/v1/receipts/{receipt}")
    assert answer.json() == {"logged": True, "profiles": True, "analytics": False}


async def test_nonsense_is_no_receipt(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/receipts/nonsense")
    assert (answer.status_code, answer.json()["code"]) == (404, "receipt_not_found")
    answer = await client.get("/v1/profiles?after=nonsense")
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/after")
