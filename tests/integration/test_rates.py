"""Rates of currencies: kept over HTTP, and in whatever adds up money from then on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.identity.identifiers import normalise
from cdp.identity.rules import default_rules
from cdp.orders import rates_routes, routes
from cdp.orders.order import Report
from cdp.orders.orders_store import PlacedReport, write_reports
from cdp.profiles.routes import People
from cdp.runtime.error_answers import install_error_answers
from cdp.segments import segments_store
from cdp.segments.evaluate import explain
from cdp.segments.parse import parse_rule
from cdp.segments.person_engine import read_person_facts
from cdp.segments.refresh import Refresher
from cdp.storage.database import Database, driver
from tests.support.committed import committing

MARCH = datetime(2026, 3, 10, tzinfo=UTC)
USD = {"currency": "USD", "to": "CNY", "at": "2026-03-01", "rate": "7.125"}
RICH = {
    "orders": {}, "aggregate": {"fn": "sum", "property": "total", "currency": "CNY"},
    "op": "gte", "value": 100,
}  # fmt: skip


@pytest.fixture
def client(database: Database) -> TestClient:
    people = People(database, partial(normalise, rules=default_rules("CN")))
    routers = [
        rates_routes.create_router(database),
        routes.create_router(database, people.find_number, lambda name: name, "CNY"),
    ]
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    return as_token(app, database, ("admin", "profiles:read", "pii:read"))


def as_token(app: Any, database: Database, scopes: tuple[str, ...]) -> TestClient:
    with database.transaction() as connection:
        token = tokens_store.create_token(driver(connection), "t", scopes)[1]
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


def buy(database: Database, total: int, currency: str = "USD", at: datetime = MARCH) -> int:
    """Make a person of one order."""
    with committing(database) as batch:
        node = batch.add_person("ann")
        said = Report("1001", "record", at, "m1", placed_at=at, currency=currency, total=total)
        reports = write_reports(batch.tx, [PlacedReport("", 1, node, said)], "CNY")
        batch.changes.orders |= reports
    return node


def put(client: TestClient, *rows: dict[str, Any]) -> Any:
    return client.put("/v1/rates", json={"rates": list(rows)})


def test_rates_are_added_replaced_removed_and_listed_page_by_page(client: TestClient) -> None:
    other = {**USD, "at": "2026-04-01", "rate": "7.2"}
    assert put(client, USD, other).json() == {"rates": 2, "changed": 2}
    assert put(client, USD).json() == {"rates": 1, "changed": 0}

    first = client.get("/v1/rates", params={"limit": 1}).json()
    rest = client.get("/v1/rates", params={"limit": 1, "cursor": first["next"]}).json()
    assert (first["data"], rest["data"], rest["next"]) == ([other], [USD], None)

    assert put(client, {**USD, "rate": None}, {**other, "rate": 7.3}).json()["changed"] == 2
    assert client.get("/v1/rates?currency=usd&to=CNY").json()["data"] == [{**other, "rate": "7.3"}]


@pytest.mark.parametrize(
    ("row", "code", "path"),
    [
        ({**USD, "currency": "XXQ"}, "unknown_currency", "/rates/0/currency"),
        ({**USD, "to": "usd"}, "invalid_rates", "/rates/0/to"),
        ({**USD, "at": "1900-02-29"}, "invalid_date", "/rates/0/at"),
        ({**USD, "rate": "-1"}, "invalid_rate", "/rates/0/rate"),
        ({**USD, "more": 1}, "unknown_key", "/rates/0/more"),
    ],
    ids=["currency", "same", "date", "rate", "key"],
)
def test_a_row_that_is_no_rate_is_refused_at_its_place(
    client: TestClient, row: dict[str, Any], code: str, path: str
) -> None:
    answer = put(client, row)

    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["details"]["path"]) == (code, path)


def test_only_administrators_change_rates_and_it_is_written_down(
    client: TestClient, database: Database
) -> None:
    reader = as_token(client.app, database, ("profiles:read",))
    assert put(reader, USD).status_code == 403
    assert reader.get("/v1/rates").status_code == 200

    put(client, USD)
    with database.transaction() as connection:
        rows = connection.exec_driver_sql("SELECT action, details FROM audit").all()
    assert [row[0] for row in rows] == ["rates_changed"]
    assert rows[0][1]["pairs"] == ["USD/CNY"]


def test_a_rate_completes_the_figures_of_a_person(client: TestClient, database: Database) -> None:
    buy(database, 1_500)
    path = "/v1/profiles/user_id:ann/figures"
    before = client.get(path).json()
    put(client, USD)
    after = client.get(path).json()

    assert before["reporting"] is None
    assert before["missing_rates"][0]["order_ids"] == ["1001"]
    # 15.00 USD at 7.125 are 106.875: half to the even.
    assert after["reporting"]["net"] == {"amount": 10_688, "currency": "CNY"}
    assert after["missing_rates"] == []


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "analytics.duckdb", "256MB", 2)
    yield opened
    opened.close()


def test_a_rate_moves_members_of_segments_that_convert(
    client: TestClient, database: Database, engine: Engine
) -> None:
    node = buy(database, 1_500)
    with database.transaction() as connection:
        segments_store.create_segment(
            driver(connection), key="rich", name="Rich", description="", rule=RICH, consent=None,
            actor="test", now=MARCH,
        )  # fmt: skip
    feed = Feed(database, engine)
    refresher = Refresher(database, engine, timezone="UTC", time_seconds=3600)

    def members() -> list[str]:
        feed.catch_up()
        refresher.refresh(MARCH + timedelta(days=20))
        with database.transaction() as connection:
            rows = connection.exec_driver_sql("SELECT profile_id FROM memberships").all()
        return [row[0] for row in rows]

    assert members() == []
    put(client, USD)
    assert members() == ["prf_user_id_ann"]
    why = explain(parse_rule(RICH), read_person_facts(engine, node), MARCH + timedelta(days=20))
    assert (why["holds"], why["value"]) == (True, 106.88)
    assert engine.read("FROM rates").to_pylist()[0]["currency"] == "USD"
    put(client, {**USD, "rate": None})
    assert members() == []
    put(client, {**USD, "currency": "CNY", "to": "USD", "rate": "0.1"})
    feed.rebuild()
    assert members() == ["prf_user_id_ann"]
    feed.close()
