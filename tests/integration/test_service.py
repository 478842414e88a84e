"""Service of a person: kept beside the timeline, shown on the profile, and a table for SQL."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.identity.identifiers import normalise
from cdp.identity.rules import default_rules
from cdp.model import Event, Source
from cdp.profiles import routes as profile_routes
from cdp.runtime.error_answers import install_error_answers
from cdp.service import routes
from cdp.service.read_event import SERVICE_EVENTS, read_service
from cdp.service.service_store import write_service
from cdp.storage.database import Database, driver
from cdp.storage.migrate import _configure
from cdp.storage.partitions import ensure_partitions
from tests.support.committed import Batch, committing
from tests.support.postgres import PostgresServer

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
DESK = Source("src_desk", 0, "desk", "service")


def tell(batch: Batch, node: int, name: str, hour: float = 0, **properties: Any) -> None:
    """Write an event as the worker does: into the timeline, and beside it."""
    at = START + timedelta(hours=hour)
    message_id = batch.add_event(node, name, properties, at=at)
    told = Event(
        DESK, message_id, "track", name, at, at, (), json.dumps(properties).encode(), b"{}"
    )
    write_service(batch.tx, [(told, node)])


@pytest.fixture
def client(database: Database) -> TestClient:
    rule = partial(normalise, rules=default_rules("CN"))
    people = profile_routes.People(database, rule)
    routers = [
        profile_routes.create_router(database, rule),
        routes.create_router(people.find_number),
    ]
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    return as_token(app, database, "profiles:read", "pii:read")


def as_token(app: Any, database: Database, *scopes: str) -> TestClient:
    with database.transaction() as connection:
        token = tokens_store.create_token(driver(connection), "t", scopes)[1]
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


def test_service_is_on_the_profile_and_follows_who_is_who(
    client: TestClient, database: Database
) -> None:
    with committing(database) as batch:
        ann, mail = batch.add_person("ann"), batch.add_person("ann2")
        tell(batch, ann, "Ticket Created", ticket_id="T1", subject="ask ann@example.com")
        tell(batch, mail, "Ticket Closed", 2, ticket_id="T1")
        tell(batch, mail, "Ticket Created", 3, ticket_id="T2")
        tell(batch, mail, "NPS Answered", 4, score=9)
        tell(batch, ann, "Page Seen", 5)

    assert client.get("/v1/profiles/user_id:ann").json()["service"] == {
        "open_tickets": 1, "tickets": 1, "open_complaints": 0, "last_nps": None,
        "last_nps_at": None,
    }  # fmt: skip
    with committing(database) as batch:
        batch.merge([mail], ann)
    counts = client.get("/v1/profiles/user_id:ann").json()["service"]
    assert (counts["open_tickets"], counts["tickets"], counts["last_nps"]) == (1, 2, 9)

    shown = client.get("/v1/profiles/user_id:ann2/service").json()
    assert [(one["ticket_id"], one["status"]) for one in shown["tickets"]] == [
        ("T2", "open"), ("T1", "closed"),
    ]  # fmt: skip
    assert shown["tickets"][1]["subject"] == "ask ann@example.com"
    blind = as_token(client.app, database, "profiles:read")
    masked = blind.get("/v1/profiles/user_id:ann/service").json()
    assert masked["tickets"][1]["subject"] == "ask a***"


def test_a_list_goes_on_page_by_page(client: TestClient, database: Database) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        for number in range(5):
            tell(batch, ann, "Product Reviewed", number % 3, review_id=f"r{number}")
    path, seen, cursor = "/v1/profiles/user_id:ann/service/reviews", [], None
    while True:
        page = client.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [row["review_id"] for row in page.json()["data"]]
        cursor = page.json()["next"]
        if cursor is None:
            break
    assert sorted(seen) == ["r0", "r1", "r2", "r3", "r4"]
    assert client.get("/v1/profiles/user_id:ann/service/others").status_code == 422


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "analytics.duckdb", "256MB", 2)
    yield opened
    opened.close()


def draw_properties(draw: random.Random) -> dict[str, Any]:
    """Properties of a service event, mostly sound."""
    said = {
        "ticket_id": draw.choice(("T1", "T2", " T1 ", 7, None, "")),
        "status": draw.choice(("open", "Closed", "已解决", "", None, 3, ["x"])),
        "subject": draw.choice(("a", "b", None)),
        "resolved_at": draw.choice((None, "", "2026-03-01")),
        "score": draw.choice((0, 9, "10", 9.0, 11, "x", True)),
        "nps": draw.choice((None, 4, "5")),
        "survey_type": draw.choice(("nps", "NPS ", "csat", None)),
    }
    return {name: value for name, value in said.items() if draw.random() < 0.5}


def test_profile_list_and_sql_say_the_same_of_any_tickets(
    client: TestClient, database: Database, engine: Engine
) -> None:
    draw = random.Random(11)
    names = [name for name, kind in SERVICE_EVENTS.items() if kind == "ticket"]
    people = [f"p{number}" for number in range(25)]
    with committing(database) as batch:
        for person in people:
            node = batch.add_person(person)
            for _ in range(draw.randint(1, 7)):
                hour = draw.randint(0, 3)
                tell(batch, node, draw.choice(names), hour, **draw_properties(draw))
    feed = Feed(database, engine)
    feed.catch_up()
    feed.close()
    rows = engine.read("FROM tickets").to_pylist()
    found = 0
    for person in people:
        shown = client.get(f"/v1/profiles/user_id:{person}/service").json()
        counts = client.get(f"/v1/profiles/user_id:{person}").json()["service"]
        own = [row for row in rows if row["profile_id"] == f"prf_user_id_{person}"]
        assert sorted(map(key_of, own), key=repr) == sorted(map(key_of, shown["tickets"]), key=repr)
        assert counts["open_tickets"] == shown["open_tickets"]
        assert counts["tickets"] == len(shown["tickets"])
        assert counts["last_nps"] == shown["last_nps"]
        found += len(own)
    assert found > 40


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("ticket_id", "status", "is_open", "subject", "events"))


def test_what_was_said_before_there_was_such_a_table_is_carried_over(
    postgres_server: PostgresServer,
) -> None:
    draw = random.Random(5)
    with postgres_server.fresh_url(migrated=False) as url:
        database = Database(url)
        upgrade(database, "0016")
        ensure_partitions(database, [START.date()])
        expected = []
        with database.transaction() as connection:
            for number, name in enumerate([*SERVICE_EVENTS, "Ticket Seen"] * 6):
                said = draw_properties(draw)
                connection.exec_driver_sql(
                    """INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id,
                                           type, name, at, received_at, properties, context)
                       VALUES (%s, 0, 1, 1, %s, 'track', %s, now(), '2026-03-01', %s, '{}')""",
                    (number, f"m{number}", name, json.dumps(said)),
                )
                read = read_service(name, said, f"m{number}")
                expected += [] if read is None else [(f"m{number}", *read)]
        upgrade(database, "0017")
        with database.transaction() as connection:
            found = connection.exec_driver_sql(
                "SELECT message_id, kind, record_id, is_open, nps FROM service_events"
            ).all()
        database.close()
    assert sorted(map(tuple, found)) == sorted(expected)


def upgrade(database: Database, revision: str) -> None:
    config = _configure()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
