"""Touches, sessions and channels are told from the timeline, whatever happened to who is who."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.identity.identifiers import normalise
from cdp.identity.rules import default_rules
from cdp.profiles import visits_routes
from cdp.profiles.routes import People
from cdp.receipts import Progress
from cdp.runtime.clock import format_time
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database
from tests.support.profile_rows import Writer, hour
from tests.support.segments import make_token

MINUTE = 1 / 60


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    people = People(database, partial(normalise, rules=default_rules("CN")))
    router = visits_routes.create_router(people)
    app = FastAPI()
    app.state.progress = Progress(lambda _: {}, lambda _: {})
    app.include_router(router)
    tokens = TokenDirectory(database)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=tokens)
    install_error_answers(app)
    with TestClient(app, headers=make_token(database, "profiles:read", "pii:read")) as client:
        yield client


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database)


def ask(client: TestClient, person: str, what: str, **params: Any) -> Any:
    answer = client.get(f"/v1/profiles/{person}/{what}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def page(url: str, referrer: str | None = None) -> dict[str, Any]:
    return {"page": {"url": url} | ({"referrer": referrer} if referrer else {})}


def test_a_silence_of_more_than_half_an_hour_begins_another_session(
    client: TestClient, writer: Writer
) -> None:
    web = writer.add_source("web")
    ann = writer.add_node("user_id", "ann")
    # Out of order, the last exactly half an hour after the one before.
    for minutes in (40, 0, 70, 10, 101):
        context = page(f"https://shop.cn/{minutes}", "https://www.baidu.com/s?wd=tea")
        writer.add_event(ann, hour(minutes * MINUTE), f"m{minutes}", context=context, source=web)
    found = ask(client, "user_id:ann", "sessions")
    assert [(row["started_at"], row["events"]) for row in found["data"]] == [
        (format_time(hour(101 * MINUTE)), 1), (format_time(hour(0)), 4),
    ]  # fmt: skip
    assert (found["count"], found["last_session_at"]) == (2, format_time(hour(101 * MINUTE)))
    first = found["data"][1]
    assert (first["landing_page"], first["referrer_domain"], first["channel"]) == (
        "https://shop.cn/0", "baidu.com", "search",
    )  # fmt: skip
    assert (first["seconds"], first["source"]) == (70 * 60, "web")


def test_sessions_are_each_sources_own_with_its_own_silence(
    client: TestClient, writer: Writer
) -> None:
    sources = [writer.add_source("web"), writer.add_source("app", "app"), writer.add_source("till")]
    for number, minutes in ((sources[1], 5), (sources[2], 0)):
        writer.execute(
            """UPDATE sources SET settings = json_build_object('session_minutes', %(m)s::int)
                WHERE number = %(n)s""",
            {"m": minutes, "n": number},
        )
    ann = writer.add_node("user_id", "ann")
    for source in sources:
        for minutes in (0, 10):
            writer.add_event(ann, hour(minutes * MINUTE), f"{source}-{minutes}", source=source)
    found = ask(client, "user_id:ann", "sessions")
    assert sorted((row["source"], row["events"]) for row in found["data"]) == [
        ("app", 1), ("app", 1), ("web", 2),
    ]  # fmt: skip


def test_sessions_come_page_by_page_and_as_of_a_time(client: TestClient, writer: Writer) -> None:
    web = writer.add_source("web")
    ann = writer.add_node("user_id", "ann")
    for hours in range(5):
        writer.add_event(ann, hour(hours), f"m{hours}", source=web)
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = ask(client, "user_id:ann", "sessions", **params)
        seen += [row["started_at"] for row in answer["data"]]
        cursor = answer["next"]
        if cursor is None:
            break
    assert seen == [format_time(hour(hours)) for hours in (4, 3, 2, 1, 0)]
    assert ask(client, "user_id:ann", "sessions", at=format_time(hour(1.5)))["count"] == 2


def test_two_halves_of_a_visit_are_one_session_once_they_are_one_person(
    client: TestClient, writer: Writer
) -> None:
    web = writer.add_source("web")
    visitor = writer.add_node("anonymous_id", "a1")
    ann = writer.add_node("user_id", "ann")
    writer.add_event(visitor, hour(0), "m1", source=web, context=page("https://shop.cn/?gclid=x"))
    writer.add_event(ann, hour(20 * MINUTE), "m2", source=web)
    assert ask(client, "user_id:ann", "touches")["first_touch"] is None
    writer.tie(ann, visitor)
    found = ask(client, "user_id:ann", "sessions")
    assert [row["events"] for row in found["data"]] == [2]
    touch = ask(client, "user_id:ann", "touches")["first_touch"]
    assert (touch["channel"], touch["click_id"], touch["via"]) == (
        "paid", {"type": "gclid", "value": "x"}, "web",
    )  # fmt: skip


def test_touches_are_told_as_of_a_time(client: TestClient, writer: Writer) -> None:
    web = writer.add_source("web")
    ann = writer.add_node("user_id", "ann")
    for hours, source in ((2, "b"), (1, "a"), (3, "c")):
        context = {"campaign": {"source": source}, "page": {"url": "https://shop.cn/"}}
        writer.add_event(ann, hour(hours), f"m{hours}", source=web, context=context)

    def tell(**params: Any) -> list[str]:
        return [
            touch["source"] for touch in ask(client, "user_id:ann", "touches", **params).values()
        ]

    assert tell() == ["a", "c"]
    assert tell(at=format_time(hour(2.5))) == ["a", "b"]


def test_channels_are_those_of_sources_and_of_orders(client: TestClient, writer: Writer) -> None:
    web, till = writer.add_source("web"), writer.add_source("mini", "app")
    writer.execute(
        """UPDATE sources SET settings = '{"channel": "wechat"}' WHERE number = %(n)s""",
        {"n": till},
    )
    ann = writer.add_node("user_id", "ann")
    for hours, source in ((0, web), (1, web), (2, till)):
        writer.add_event(ann, hour(hours), f"m{hours}", source=source)
    writer.execute(
        """INSERT INTO orders (scope, order_id, node_id, status, currency, total, refunded,
                               placed_at, updated_at, channel, document)
           VALUES ('', '1', %(node)s, 'paid', 'CNY', 100, 0, %(at)s, %(at)s, 'Store', '{}')""",
        {"node": ann, "at": hour(3)},
    )
    rows = ask(client, "user_id:ann", "channels")["data"]
    assert [(row["channel"], row["events"], row["orders"]) for row in rows] == [
        ("store", 0, 1), ("wechat", 1, 0), ("web", 2, 0),
    ]  # fmt: skip
    assert (rows[2]["first_at"], rows[2]["last_at"]) == (format_time(hour(0)), format_time(hour(1)))
