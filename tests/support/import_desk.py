"""The routes of imports over real HTTP, with runner and worker that move when a test says so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from cdp import receipts
from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.ingest.door import Door
from cdp.ingest.imports import routes
from cdp.ingest.imports.run_import import Defaults
from cdp.ingest.imports.runner import ImportRunner
from cdp.ingest.imports.start_import import Imports
from cdp.ingest.imports.uploads_folder import Uploads
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.postgres_log import PostgresLog
from cdp.model import Source, SourceType
from cdp.record_kinds import list_record_kinds
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.ingest_server import run_ingest
from tests.support.small_stack import make_worker

SEEING = ("sources:write", "pii:read")


class ImportDesk:
    """What a test of imports needs in its hands."""

    def __init__(self, database: Database, folder: Path, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.database = database
        self.directory = SourceDirectory(database)
        self.directory.refresh()
        self.log = PostgresLog(database, 2)
        self._working_log = PostgresLog(database, 2)
        self.worker = make_worker(database, self._working_log, self.directory)
        self.uploads = Uploads(folder, max_bytes=self.settings.max_import_bytes)
        self.runner = self.make_runner()
        self.imports = Imports(database, self.directory, self.runner, dedup_days=7)
        self.client = httpx.Client()

    def make_runner(self, log: Any = None) -> ImportRunner:
        """A runner of its own; it moves by ``run_next``."""
        settings = self.settings
        door = Door(log or self.log, settings, list_record_kinds(settings.currency))
        return ImportRunner(
            self.database,
            self.uploads,
            door,
            self.directory.by_id,
            Defaults(settings.timezone, settings.currency),
            log_name=self.log.name,
            retention=timedelta(days=settings.import_retention_days),
            lease_seconds=1.0,
        )

    def make_api(self) -> FastAPI:
        """The routes behind the guard."""
        receipt = partial(receipts.encode, self.log.name)
        router = routes.create_router(self.database, self.imports, receipt)
        app = FastAPI()
        app.include_router(router)
        tokens = TokenDirectory(self.database)
        app.add_middleware(Guard, routes=read_requirements([router]), tokens=tokens)
        install_error_answers(app)
        return app

    def make_token(self, *scopes: str) -> dict[str, str]:
        """Headers of a caller with these scopes."""
        with self.database.transaction() as connection:
            _, token = tokens_store.create_token(driver(connection), "test", scopes)
        return {"Authorization": f"Bearer {token}"}

    def add_source(self, kind: SourceType = "crm", **settings: Any) -> Source:
        """A source of a test's own."""
        with self.database.transaction() as connection:
            source, _ = create_source(driver(connection), "mine", kind, settings)
        self.directory.refresh()
        return source

    def post(
        self, content: bytes | None, kind: str | None = "events", mapping: Any = None, **fields: Any
    ) -> httpx.Response:
        """Upload ``content``."""
        form: dict[str, Any] = {k: (None, str(v)) for k, v in fields.items()}
        if kind is not None:
            form["kind"] = (None, kind)
        if mapping is not None:
            form["mapping"] = (None, json.dumps(mapping))
        if content is not None:
            form["file"] = ("a/b/rows.bin", content)
        return self.client.post("/v1/imports", files=form)

    def import_file(
        self, content: bytes, kind: str = "events", mapping: Any = None, **fields: Any
    ) -> dict[str, Any]:
        """Upload, run to the end, let the worker work it off; the import as it is then."""
        answer = self.post(content, kind, mapping, **fields)
        assert answer.status_code == 202, answer.text
        self.run_all()
        return self.show(answer.json()["id"])

    def run_all(self) -> None:
        """Run every import that waits, and the worker."""
        while self.runner.run_next():
            pass
        self.work()

    def work(self) -> None:
        """Let the worker work off what lies in the log."""
        while self.worker.step(0):
            pass

    def show(self, import_id: str) -> dict[str, Any]:
        """The import as its route shows it."""
        found: dict[str, Any] = self.client.get(f"/v1/imports/{import_id}").json()
        return found

    def rejected(self, import_id: str) -> list[dict[str, Any]]:
        """The refused rows as their route shows them."""
        rows: list[dict[str, Any]] = self.client.get(f"/v1/imports/{import_id}/rejected").json()[
            "data"
        ]
        return rows

    def end_leases(self) -> None:
        """Let the time pass for which a dead runner holds its import."""
        with self.database.transaction() as connection:
            driver(connection).execute("UPDATE imports SET lease_until = now() - interval '1 s'")

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        with self.database.transaction() as connection:
            return driver(connection).execute(sql, values).fetchall()

    def close(self) -> None:
        """Let go of everything."""
        self.client.close()
        self.worker.close()
        self._working_log.close()
        self.log.close()


@contextlib.contextmanager
def run_desk(
    database: Database, folder: Path, settings: Settings | None = None
) -> Iterator[ImportDesk]:
    """A desk with its server; callers see everything and may import."""
    desk = ImportDesk(database, folder, settings)
    try:
        with run_ingest(desk.directory, desk.log, desk.make_api(), desk.settings) as url:
            desk.client = httpx.Client(base_url=url, headers=desk.make_token(*SEEING), timeout=30)
            yield desk
    finally:
        desk.close()
