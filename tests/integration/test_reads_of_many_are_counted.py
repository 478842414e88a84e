"""The audit tells of a read of many people how many there were, also when they come as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.audit_store import Entry
from cdp.access.guard import Guard, read_requirements
from cdp.access.read_audit import WatchReads
from cdp.access.token_directory import TokenDirectory
from cdp.analytics import routes as analytics_routes
from cdp.analytics.engine import Engine
from cdp.errors import NotFound
from cdp.ingest import rejected_routes
from cdp.receipts import Progress
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.segments import members_routes, routes
from cdp.segments.refresh import Refresher
from cdp.segments.service import FoundPerson, Segments
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.people import People
from tests.support.segments import make_token

SCOPES = ("sql:read", "segments:read", "segments:write", "sources:write", "pii:read")


class Noted:
    """A client with every scope, and what is noted of its reads."""

    def __init__(self, app: FastAPI, entries: list[Entry], headers: dict[str, str]) -> None:
        self.client = TestClient(app, headers=headers)
        self._entries = entries

    def read(self, path: str, **more: Any) -> list[Any]:
        """Read a path, or post to it; return the counts noted since."""
        del self._entries[:]
        verb = "POST" if more else "GET"
        answer = self.client.request(verb, path, **more)
        assert answer.status_code == 200, answer.text
        return [entry.details.get("count") for entry in self._entries]


@pytest.fixture
def noted(database: Database, tmp_path: Path) -> Iterator[Noted]:
    """Three buyers of which one sent something that was refused."""
    engine = Engine(tmp_path / "analytics.duckdb")
    refresher = Refresher(database, engine, timezone="UTC", time_seconds=15)
    services = Segments(database, engine, refresher, _find_nobody, "UTC")
    routers = [
        routes.create_router(services),
        members_routes.create_router(services),
        analytics_routes.create_router(engine, Settings()),
        rejected_routes.create_router(database, cast("Any", None), cast("Any", None)),
    ]
    entries: list[Entry] = []
    app = FastAPI()
    app.state.progress = Progress(refresher.positions, refresher.positions)
    for router in routers:
        app.include_router(router)
    app.add_middleware(WatchReads, keep=entries.append)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    people = People(database, engine)
    for name in ("ann", "bob", "eve"):
        people.event(people.add(name), "Order Completed", now())
    with database.transaction() as connection:
        driver(connection).execute(
            """INSERT INTO rejected (source_id, code, message, received_at, raw)
               VALUES ('src_x', 'unknown_type', '…', now(), '{}')"""
        )
    noted = Noted(app, entries, make_token(database, *SCOPES))
    people.publish(now())
    made = noted.client.post(
        "/v1/segments", json={"key": "buyers", "rule": {"event": "Order Completed"}}
    )
    assert made.status_code == 201, made.text
    yield noted
    engine.close()


def _find_nobody(name: str) -> FoundPerson:
    raise NotFound("profile_not_found", name)


def test_members_are_counted_page_by_page_and_as_they_stream(noted: Noted) -> None:
    assert noted.read("/v1/segments/buyers/members?limit=2") == [2]
    for format in ("ndjson", "csv", "parquet"):
        assert noted.read(f"/v1/segments/buyers/members?format={format}") == [3]
    assert noted.read("/v1/segments/preview", json={"rule": {"segment": "buyers"}}) == [3]


def test_rows_of_sql_and_of_whole_tables_are_counted(noted: Noted) -> None:
    sql = "SELECT * FROM profiles"
    for format in ("json", "csv", "parquet", "arrow"):
        assert noted.read("/v1/query", json={"sql": sql, "format": format, "limit": 2}) == [2]
    for format in ("ndjson", "csv", "parquet", "arrow"):
        assert noted.read(f"/v1/export/profiles?format={format}") == [3]


def test_refused_events_are_counted_and_their_numbers_are_nobody_s(noted: Noted) -> None:
    assert noted.read("/v1/rejected") == [1]
    assert noted.read("/v1/rejected/counts") == []
