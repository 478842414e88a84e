"""The tables that SDKs' warehouses have say what was called, and of visits what profiles show."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.analytics.call_views import CLICK_IDS
from cdp.analytics.catalogue import list_tables
from cdp.analytics.descriptions import TABLES
from cdp.analytics.engine import Engine
from cdp.analytics.event_views import snake_case
from cdp.analytics.feed import Feed
from cdp.profiles import touches
from cdp.profiles.sessions_store import read_sessions
from cdp.profiles.touches_store import read_touches
from cdp.runtime.clock import format_time, now
from cdp.storage.database import Database, driver
from tests.support.committed import Batch, committing

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def add_source(batch: Batch, name: str, minutes: int | None = None) -> int:
    settings = {} if minutes is None else {"session_minutes": minutes}
    row = batch.tx.execute(
        "INSERT INTO sources (source_id, name, type, settings) VALUES (%s, %s, 'web', %s)"
        " RETURNING number",
        (name, name, json.dumps(settings)),
    ).fetchone()
    assert row is not None
    return int(row[0])


def call(
    batch: Batch,
    node: int,
    kind: str,
    minutes: float,
    *,
    source: int,
    name: str | None = None,
    properties: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
) -> str:
    at = START + timedelta(minutes=minutes)
    message = batch.add_event(node, name, properties, source=source, kind=kind, at=at)
    batch.tx.execute(
        "UPDATE events SET context = %s WHERE batch_id = %s AND message_id = %s",
        (json.dumps(context or {}), batch.batch_id, message),
    )
    return message


def rows(engine: Engine, table: str, order: str = '"timestamp"') -> list[dict[str, Any]]:
    return engine.read(f"SELECT * FROM {table} ORDER BY {order}").to_pylist()


@pytest.mark.parametrize(
    "name", ["Order Completed", "orderCompleted", "加入购物车", "a.b  c", "_x_", "HTTPServer2Go"]
)
def test_tracks_name_an_event_as_its_own_table_is_named(
    database: Database, engine: Engine, feed: Feed, name: str
) -> None:
    with committing(database) as batch:
        call(batch, batch.add_person("ann"), "track", 0, source=0, name=name)
    feed.catch_up()

    found = rows(engine, "tracks")[0]

    assert (found["event"], found["event_text"]) == (snake_case(name), name)


def test_each_kind_of_call_has_its_table_with_and_without_what_is_personal(
    database: Database, engine: Engine, feed: Feed
) -> None:
    page = {"url": "https://shop.cn/?to=ann@example.com", "referrer": "https://baidu.com/s"}
    with committing(database) as batch:
        web, ann = add_source(batch, "web"), batch.add_person("ann")
        device = batch.add_person("d-1", "anonymous_id")
        said = {"email": "ann@example.com", "plan": "pro"}
        call(batch, ann, "identify", 0, source=web, properties=said)
        call(batch, device, "page", 1, source=web, properties={"name": "Home", **page})
        call(batch, device, "screen", 2, source=web, properties={"name": "Start"})
        call(batch, ann, "group", 3, source=web, properties={"size": 3})
        call(batch, ann, "alias", 4, source=web)
        call(batch, ann, "track", 5, source=web, name="Seen", context={"page": page})
    feed.catch_up()

    identify = rows(engine, "identifies")[0]
    assert (identify["user_id"], json.loads(identify["traits"])) == ("ann", said)
    assert json.loads(rows(engine, "masked.identifies")[0]["traits"]) == {
        "email": "***", "plan": "pro",
    }  # fmt: skip
    found = rows(engine, "pages")[0]
    assert (found["anonymous_id"], found["user_id"], found["name"], found["url"]) == (
        "d-1", None, "Home", page["url"],
    )  # fmt: skip
    assert [row["name"] for row in rows(engine, "screens")] == ["Start"]
    assert [row["user_id"] for row in rows(engine, "groups")] == ["ann"]
    assert [row["source_id"] for row in rows(engine, "aliases")] == ["web"]
    assert rows(engine, "tracks")[0]["context_page_url"] == page["url"]
    with engine.cursor() as duck:
        tables = list_tables(duck, "masked")
    for table in tables.keys() & TABLES.keys():
        shown = rows(engine, f"masked.{table}", "ALL")
        assert "ann@example.com" not in str(shown), table
        assert {name for name, _ in tables[table]} == set(TABLES[table].columns), table


def test_sessions_are_those_that_a_profile_shows(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        sources = [add_source(batch, "web"), add_source(batch, "app", 5), add_source(batch, "t", 0)]
        ann = batch.add_person("ann")
        for source in sources:
            for minutes in (40, 0, 70, 10, 101):
                page = {"url": f"https://shop.cn/{minutes}", "referrer": "https://baidu.com/s"}
                call(batch, ann, "track", minutes, source=source, name="x", context={"page": page})
    feed.catch_up()

    with database.transaction() as connection:
        shown = read_sessions(driver(connection), ann, now(), limit=100).page

    assert [
        (row["source_id"], row["started_at"], row["ended_at"], row["events"], row["landing_page"])
        for row in rows(engine, "sessions", "started_at DESC, source_id DESC")
    ] == [
        ({sources[0]: "web", sources[1]: "app"}[one.source_number], *one[:3], one.landing.url)
        for one in sorted(shown, key=lambda one: (one.started_at, one.source_number == sources[0]),
                          reverse=True)
    ]  # fmt: skip
    assert len(shown) == 7


def test_touches_begin_and_end_with_those_that_a_profile_shows(
    database: Database, engine: Engine, feed: Feed
) -> None:
    pages = [
        {"url": "https://shop.cn/a", "referrer": "https://shop.cn/b"},
        {"url": "https://shop.cn/?utm_source=we%20chat&utm_medium=cpc#x", "referrer": ""},
        {"url": "https://shop.cn/?gclid=1"},
        {"url": "https://shop.cn/c", "referrer": "https://www.Baidu.com/s"},
        {"url": "https://shop.cn/d"},
    ]
    with committing(database) as batch:
        web, ann = add_source(batch, "web"), batch.add_person("ann")
        told = [
            call(batch, ann, "page", minutes, source=web, context={"page": page})
            for minutes, page in enumerate(pages)
        ]
        told.append(
            call(batch, ann, "track", 9, source=web, name="x", context={"campaign": {"name": "S"}})
        )
        call(batch, ann, "track", 10, source=web, name="x")
    feed.catch_up()
    with database.transaction() as connection:
        ends = read_touches(driver(connection), ann)

    found = rows(engine, "touches")

    assert [row["message_id"] for row in found] == [told[1], told[2], told[3], told[5]]
    parts = ("message_id", "referrer_domain", "url")
    for row, shown in ((found[0], ends[0]), (found[-1], ends[1])):
        assert shown is not None
        assert [row[part] for part in parts] == [shown[part] for part in parts]
        assert format_time(row["timestamp"]) == shown["at"]
        for name in touches.UTM_NAMES:
            assert row[f"utm_{name}"] == shown[name]
    assert [row["click_id"] for row in found] == [None, "gclid", None, None]
    assert found[2]["referrer_domain"] == "baidu.com"


def test_the_clicks_of_advertisers_are_those_that_profiles_know() -> None:
    assert set(CLICK_IDS) == set(touches.CLICK_IDS)
