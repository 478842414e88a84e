"""Everything around a deletion in one process: the log, a worker, and the desk that carries out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cdp.carry_out import Desk, EraseArchived, describe_foreign_log, nothing_archived
from cdp.export_people import export_people
from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.imports.uploads_folder import Uploads
from cdp.ingest.sources_store import SourceDirectory, create_source
from cdp.log.port import Log
from cdp.log.postgres_log import PostgresLog
from cdp.model import Identifier
from cdp.privacy import jobs_store as jobs
from cdp.privacy.again_store import ACTOR
from cdp.privacy.archives_folder import Archives
from cdp.privacy.scrub_store import scrub_disk
from cdp.profiles.profile_store import Person, find_people, read_people
from cdp.profiles.timeline_store import Archived
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.worker import Worker
from tests.support.wire import append_events


@dataclass
class NoAnalytics:
    """DuckDB has followed at once, or not yet."""

    is_ready: bool = True
    forgot: list[int] = field(default_factory=list)

    def has_followed(self, seq: int, seconds: float) -> bool:
        return self.is_ready

    def forget(self, seq: int) -> bool:
        self.forgot.append(seq)
        return True


class PrivacyWorld:
    """A database with one source; what is sent is worked off at once."""

    def __init__(self, database: Database, folder: Path, log: Log | None = None) -> None:
        """``log`` is an embedded one unless given; it is closed with this."""
        self.database = database
        self.folder = folder
        self.log: Log = log or PostgresLog(database, 2)
        self.archives = Archives(folder)
        self.analytics = NoAnalytics()
        self.desk = self.make_desk()
        with database.transaction() as connection:
            self.source_id = create_source(driver(connection), "shop", "server", {})[0].source_id
        self.worker = self.make_worker("one")
        self._requests = 0

    archived: Archived | None = None
    erase_archived: EraseArchived = staticmethod(nothing_archived)

    def make_desk(self, *, scrubs: bool = False) -> Desk:
        """As another process would have it; unless it ``scrubs``, tables are left as they are."""
        settings = Settings(data_dir=self.folder)
        return Desk(
            self.database,
            settings,
            self.log.name,
            self.analytics,
            self.archives,
            Uploads(self.folder, max_bytes=10**9).remove,
            lambda job_id, asked: export_people(
                self.database, self.archives, job_id, asked, datetime.now(UTC), self.archived
            ),
            lambda touched: (
                scrub_disk(self.database, self.folder, touched, lambda: datetime.now(UTC))
                if scrubs
                else {}
            ),
            self.erase_archived,
            getattr(self.log, "describe_retention", describe_foreign_log),
        )

    def make_worker(self, name: str) -> Worker:
        """A worker that shares no memory with any other."""
        rules = default_rules("CN")
        with self.database.transaction() as connection:
            salt = ensure_salt(driver(connection))
        return Worker(
            self.database,
            self.log,
            SourceDirectory(self.database),
            IdentityStore(rules, salt),
            partial(identify_claims, rules=rules),
            worker_id=name,
        )

    def close(self) -> None:
        self.worker.close()
        self.log.close()

    def send(self, events: Iterable[dict[str, Any]]) -> None:
        """Let the log take ``events``, and the worker work them off."""
        self._requests += 1
        append_events(self.log, self.source_id, events, request_id=f"req_{self._requests}")
        self.work()

    def work(self) -> None:
        while self.worker.step(0):
            pass

    def ask(self, kind: jobs.Kind, *names: str, reason: str = "") -> str:
        """Ask privacy for something; nothing is done yet."""
        asked = [Identifier(*name.split(":", 1)) for name in names]
        with self.database.transaction() as connection:
            return jobs.add_job(
                driver(connection),
                kind,
                asked,
                reason=reason,
                actor="test",
                now=datetime.now(UTC),
            )

    def carry_out(self) -> None:
        """Do all that is open."""
        for _ in range(20):
            if not self.desk.work() and not self.open_jobs():
                return
            if all(job.actor == ACTOR for job in self.open_jobs()):
                return  # They gather.
        raise AssertionError(f"open: {self.open_jobs()}")

    def do(self, kind: jobs.Kind, *names: str) -> jobs.Job:
        """Ask for something and have it done; return the job."""
        job_id = self.ask(kind, *names)
        self.carry_out()
        return self.find_job(job_id)

    def open_jobs(self) -> Sequence[jobs.Job]:
        with self.database.transaction() as connection:
            return jobs.list_open(driver(connection))

    def find_job(self, job_id: str) -> jobs.Job:
        with self.database.transaction() as connection:
            found = jobs.find_job(driver(connection), job_id)
        assert found is not None
        return found

    def find(self, name: str) -> Person | None:
        """Whom an identifier leads to."""
        with self.database.transaction() as connection:
            tx = driver(connection)
            found = find_people(tx, [Identifier(*name.split(":", 1))])[0]
            if found is None:
                return None
            return read_people(tx, [found.profile_no])[found.profile_no]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def list_tables_with(self, word: str) -> set[str]:
        """The tables in which some row has ``word`` in it, bytes included."""
        found = set()
        for (table,) in self.query(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace"
        ):
            extra = {
                "log_records": "|| encode(value, 'escape')",
                "rejected": "|| encode(raw, 'escape')",
                "import_rejected": "|| encode(raw, 'escape')",
                "dead_letters": "|| encode(value, 'escape')",
            }.get(table, "")
            sql = f"SELECT count(*) FROM {table} t WHERE row_to_json(t)::text {extra} ILIKE %s"
            with self.database.transaction() as connection:
                row = driver(connection).execute(sql, (f"%{word}%",)).fetchone()
            if row != (0,):
                found.add(table)
        return found
