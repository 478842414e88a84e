"""A small application around the routes of segments and tags, with people of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.activation.destinations_store import list_users
from cdp.analytics.engine import Engine
from cdp.errors import NotFound
from cdp.model import Identifier
from cdp.receipts import Progress
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.segments import members_routes, routes, tags_routes
from cdp.segments.refresh import Refresher
from cdp.segments.retire_unit import UserName
from cdp.segments.service import FoundPerson, Segments
from cdp.storage.database import Database, driver
from cdp.tag_queries import TagQueriesOnDuckDb
from tests.support.people import People

ALL_SCOPES = ("segments:read", "segments:write", "tags:write", "pii:read")


@dataclass
class Served:
    """The routes, served; ``client`` holds every scope that they ask for."""

    client: TestClient
    people: People
    engine: Engine
    refresher: Refresher
    app: FastAPI
    database: Database

    def client_with(self, *scopes: str) -> TestClient:
        """Return a client whose token holds ``scopes``."""
        return TestClient(self.app, headers=make_token(self.database, *scopes))

    def follow(self) -> None:
        """Publish what happened and evaluate it, as the follower does."""
        self.people.publish(now())
        self.refresher.refresh(now())

    def changes(self, key: str) -> list[dict[str, Any]]:
        """Return every change of a segment."""
        rows: list[dict[str, Any]] = self.client.get(
            f"/v1/segments/{key}/changes", params={"limit": 1000}
        ).json()["data"]
        return rows


def make_token(database: Database, *scopes: str) -> dict[str, str]:
    """Return the header of a new token."""
    with database.transaction() as connection:
        _, token = tokens_store.create_token(driver(connection), "test", scopes)
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def serve_segments(database: Database, folder: Path, *, timezone: str = "UTC") -> Iterator[Served]:
    """Serve the routes over an empty database and a new file."""
    engine = Engine(folder / "analytics.duckdb")
    queries = TagQueriesOnDuckDb(engine, 10)
    refresher = Refresher(
        database,
        engine,
        timezone=timezone,
        time_seconds=15,
        queries=queries,
        query_grace_seconds=10,
        find_more_users=lambda tx, name: [
            UserName("destination", one) for one in list_users(tx, name.kind, name.key)
        ],
    )

    def find_person(name: str) -> FoundPerson:
        kind, _, value = name.partition(":")
        with database.transaction() as connection:
            row = (
                driver(connection)
                .execute(
                    """SELECT p.profile_no, p.profile_id
                         FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id
                         JOIN profiles p ON p.profile_no = np.profile_no
                        WHERE n.type = %s AND n.value = %s""",
                    (kind, value),
                )
                .fetchone()
            )
        if row is None:
            raise NotFound("profile_not_found", "nobody is called so")
        return FoundPerson(row[0], row[1], Identifier(kind, value))

    services = Segments(database, engine, refresher, find_person, timezone, queries=queries)
    routers = [each.create_router(services) for each in (routes, members_routes, tags_routes)]
    app = FastAPI()
    app.state.progress = Progress(refresher.positions, refresher.positions)
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    client = TestClient(app, headers=make_token(database, *ALL_SCOPES))
    try:
        yield Served(client, People(database, engine), engine, refresher, app, database)
    finally:
        engine.close()
