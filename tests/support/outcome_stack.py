"""From the door to the worker and back over the API, in one process: what becomes of every line."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.access.tokens_store import create_token
from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest import rejected_routes, routes, source_routes
from cdp.ingest.door import Door, write_request
from cdp.ingest.parse import Judged, judge, open_batch, open_single
from cdp.ingest.replay_store import Replayer
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.format import Kind
from cdp.log.port import Log
from cdp.model import Source
from cdp.pipeline import STEPS, Step
from cdp.record_kinds import list_record_kinds
from cdp.runtime.clock import format_time, now
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.worker import Worker


@dataclass
class OutcomeStack:
    """A source, a door, a log, a worker, and the routes that tell of it."""

    database: Database
    log: Log
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.directory = SourceDirectory(self.database)
        kinds = list_record_kinds(self.settings.currency)
        self.door = Door(self.log, self.settings, kinds)
        names = ["events", *(kind.list_name for kind in kinds)]
        self.replayer = Replayer(self.door, names, self.directory.by_id)
        self.source = self.make_source("shop", "server")

    def make_source(self, name: str, kind: str, **settings: Any) -> Source:
        """A new source, known to the door."""
        with self.database.transaction() as connection:
            tx = driver(connection)
            source, _ = create_source(tx, name, kind, settings)  # type: ignore[arg-type]
        self.directory.refresh()
        return source

    def post(self, route: str, body: bytes, *, request_id: str | None = None) -> Judged:
        """Deliver ``body`` to ``/v1/{route}`` as ingest would."""
        if route == "batch":
            opened, kind = open_batch(body), None
        else:
            opened, kind = open_single(body, wants_key=False), route
        size = self.source.settings.get("max_event_bytes", self.settings.max_event_bytes)
        judged = judge(
            opened, route_type=kind, partitions=self.log.partitions, max_event_bytes=size
        )
        self._append(judged, "events", opened.sent_at, request_id)
        return judged

    def post_records(self, kind: Kind, lines: Sequence[bytes]) -> Judged:
        """Deliver records of ``kind``."""
        judged = self.door.judge(self.source, kind, lines)
        self._append(judged, kind, None, None)
        return judged

    def _append(
        self, judged: Judged, kind: Kind, sent_at: str | None, request_id: str | None
    ) -> None:
        request = write_request(
            self.source,
            judged,
            request_id=request_id or f"req_{uuid.uuid4().hex}",
            received_at=format_time(now()),
            size=1000,
            partitions=self.log.partitions,
            sent_at=sent_at,
            kind=kind,
        )
        self.door.append([request])

    def make_worker(self, steps: tuple[Step, ...] = STEPS) -> Worker:
        """A worker over the log."""
        rules = default_rules("CN")
        with self.database.transaction() as connection:
            salt = ensure_salt(driver(connection))
        return Worker(
            self.database,
            self.log,
            SourceDirectory(self.database),
            IdentityStore(rules, salt),
            partial(identify_claims, rules=rules),
            steps=steps,
            worker_id=uuid.uuid4().hex,
        )

    def work(self, steps: tuple[Step, ...] = STEPS) -> None:
        """Work the log off to its end."""
        worker = self.make_worker(steps)
        reached = 0
        ends = self.log.end_positions()
        while reached < sum(ends.values()):
            worker.step(0.2)
            reached = sum((worker._positions or {}).get(p, 0) for p in ends)
        worker.close()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows from Postgres."""
        with self.database.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def build_api(self, *more: APIRouter) -> FastAPI:
        """The routes of sources, accounting and refused events behind their guard."""
        routers = [
            source_routes.create_router(self.database, self.directory),
            routes.create_router(self.database, self.log),
            rejected_routes.create_router(self.database, self.log, self.replayer),
            *more,
        ]
        app = FastAPI()
        for router in routers:
            app.include_router(router)
        tokens = TokenDirectory(self.database)
        app.add_middleware(Guard, routes=read_requirements(routers), tokens=tokens)
        install_error_answers(app)
        return app

    def make_token(self, *scopes: str) -> str:
        """A token with ``scopes``."""
        with self.database.transaction() as connection:
            _, token = create_token(driver(connection), "test", list(scopes))
        return token

    def client(self, *scopes: str) -> TestClient:
        """A client with a token of ``scopes``; without any, one that may see all of this."""
        token = self.make_token(*(scopes or ("sources:write", "pii:read")))
        return TestClient(self.build_api(), headers={"Authorization": f"Bearer {token}"})

    def read_balance(self) -> dict[str, int]:
        """Totals over all minutes of the source; fails when a minute does not balance."""
        path = f"/v1/sources/{self.source.source_id}/accounting"
        rows = self.client().get(path, params={"from": "2020-01-01T00:00:00Z"}).json()["data"]
        assert all(row["balanced"] for row in rows)
        names = ("received", "stored", "duplicate", "rejected", "in_flight")
        return {name: sum(row[name] for row in rows) for name in names}
