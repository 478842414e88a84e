"""What the serving process holds open, and in which order it opens and closes it.

Stages are loaded by role: a process that only ingests never loads DuckDB.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdp.access.token_directory import TokenDirectory
from cdp.current_rules import CurrentRules
from cdp.errors import SetupError
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.log.open import open_log
from cdp.log.port import Log
from cdp.receipts import Progress
from cdp.runtime.metrics import Metrics
from cdp.runtime.recent_errors import RecentErrors
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.storage.positions import read_positions

if TYPE_CHECKING:
    from cdp.analytics.engine import Engine
    from cdp.follow import Follower

ANALYTICS_FILE = "analytics.duckdb"
# Threads that serve requests wait for connections rather than for each other.
_POOL_SIZE = 12


@dataclass(slots=True)
class Services:
    """Everything that routes are made from. ``engine`` and ``follower`` exist in the role api."""

    settings: Settings
    roles: frozenset[str]
    database: Database
    log: Log
    tokens: TokenDirectory
    sources: SourceDirectory
    writer: PackingWriter
    rules: CurrentRules
    progress: Progress
    metrics: Metrics = field(default_factory=Metrics)
    errors: RecentErrors = field(default_factory=RecentErrors)
    engine: Engine | None = None
    follower: Follower | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        """Start what works in the background."""
        self._open.callback(self.database.close)
        self._open.callback(self.log.close)
        if self.engine is not None:
            self._open.callback(self.engine.close)
        self.sources.start()
        self._open.callback(self.sources.close)
        if "ingest" in self.roles:
            self._open.push_async_callback(self.writer.close)
        if self.follower is not None:
            self.follower.start()
            self._open.callback(self.follower.stop)

    async def stop(self) -> None:
        """Finish what is under way, then let go of everything, in the reverse order."""
        await self._open.aclose()


def open_services(settings: Settings, roles: frozenset[str]) -> Services:
    """Open what ``roles`` need. Raises ``SetupError`` with one line for the operator."""
    if not settings.database_url:
        raise SetupError("no database: set CDP_DATABASE_URL, or start everything with `cdp up`")
    database = Database(settings.database_url, pool_size=_POOL_SIZE, application_name="cdp-serve")
    log = open_log(settings, database)
    engine = _open_engine(settings) if "api" in roles else None
    services = Services(
        settings=settings,
        roles=roles,
        database=database,
        log=log,
        tokens=TokenDirectory(database),
        sources=SourceDirectory(database),
        writer=PackingWriter(log, settings.linger_ms),
        rules=CurrentRules(database, settings.default_country),
        progress=_make_progress(database, engine),
        engine=engine,
        follower=_make_follower(database, engine, settings),
    )
    services.metrics.watch(database, log, engine)
    return services


def _open_engine(settings: Settings) -> Engine:
    from cdp.analytics.engine import Engine

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return Engine(
        settings.data_dir / ANALYTICS_FILE, settings.duckdb_memory, settings.duckdb_threads
    )


def _make_follower(
    database: Database, engine: Engine | None, settings: Settings
) -> Follower | None:
    if engine is None:
        return None
    from cdp.follow import Follower

    return Follower(database, engine, settings)


def _make_progress(database: Database, engine: Engine | None) -> Progress:
    def read_profiles(log: str) -> dict[int, int]:
        with database.transaction() as connection:
            return read_positions(driver(connection), log)

    def read_analytics(log: str) -> dict[int, int]:
        return {} if engine is None else engine.applied_positions(log)

    return Progress(read_profiles, read_analytics)
