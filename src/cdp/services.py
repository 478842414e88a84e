"""What the serving process holds open, and in which order it opens and closes it.

Stages are loaded by role: a process that only ingests never loads DuckDB.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from cdp.access.read_audit import ReadAudit
from cdp.access.token_directory import TokenDirectory
from cdp.activation.destination_metrics import DestinationCollector
from cdp.archive.archive_metrics import ArchiveCollector
from cdp.current_rules import CurrentRules
from cdp.errors import SetupError
from cdp.identity.identity_metrics import IdentityCollector
from cdp.ingest.door import Door
from cdp.ingest.lag_gate import LagGate
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.lag_watch import LagWatch
from cdp.log.open import open_log
from cdp.log.port import Log, LogUnavailable
from cdp.plan.plan_book import PlanBook, PlanCollector
from cdp.receipts import Progress
from cdp.record_kinds import list_record_kinds
from cdp.runtime.logs import get_logger
from cdp.runtime.metrics import Metrics
from cdp.runtime.recent_errors import RecentErrors
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.storage.positions import read_positions

if TYPE_CHECKING:
    from cdp.activation.runner import DestinationRunner
    from cdp.analytics.engine import Engine
    from cdp.analytics.feed import Feed
    from cdp.follow import Follower
    from cdp.identity.suggestions.runner import SuggestionRunner
    from cdp.ingest.imports.runner import ImportRunner
    from cdp.ingest.live.tail import LiveTail
    from cdp.privacy.runner import PrivacyRunner
    from cdp.profile_changes import ProfileChanges
    from cdp.segments.refresh import Refresher

_log = get_logger(__name__)

ANALYTICS_FILE = "analytics.duckdb"
# Threads that serve requests wait for connections rather than for each other.
_POOL_SIZE = 12


@dataclass(frozen=True, slots=True)
class Analytics:
    """DuckDB and what keeps it up to date."""

    engine: Engine
    feed: Feed
    refresher: Refresher
    follower: Follower
    place: str
    """Names the file among all that the database feeds."""

    def close(self) -> None:
        """Finish the round under way, then let go of the file."""
        self.follower.stop()
        self.feed.close()
        self.engine.close()


@dataclass(slots=True)
class Services:
    """Everything that routes are made from. ``analytics`` exists in the role api only."""

    settings: Settings
    roles: frozenset[str]
    database: Database
    log: Log
    tokens: TokenDirectory
    sources: SourceDirectory
    writer: PackingWriter
    gate: LagGate
    rules: CurrentRules
    plan: PlanBook
    door: Door
    progress: Progress
    metrics: Metrics = field(default_factory=Metrics)
    errors: RecentErrors = field(default_factory=RecentErrors)
    analytics: Analytics | None = None
    imports: ImportRunner | None = None
    live: LiveTail | None = None
    suggestions: SuggestionRunner | None = None
    privacy: PrivacyRunner | None = None
    changes: ProfileChanges | None = None
    reads: ReadAudit | None = None
    destinations: DestinationRunner | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        """Start what works in the background."""
        self._open.callback(self.database.close)
        self._open.callback(self.log.close)
        self.sources.start()
        self._open.callback(self.sources.close)
        self.plan.start()
        self._open.callback(self.plan.close)
        if "ingest" in self.roles:
            self._open.push_async_callback(self.writer.close)
            watch = LagWatch(self.database, self.log, self.gate)
            watch.start()
            self._open.callback(watch.close)
        if self.analytics is not None:
            self.analytics.follower.start()
            self._open.callback(self.analytics.close)
        background = (self.imports, self.suggestions, self.privacy, self.destinations)
        for runner in (*background, self.changes, self.reads):
            if runner is not None:
                runner.start()
                self._open.callback(runner.close)
        if self.live is not None:
            self._open.callback(self.live.close)

    def end_streams(self) -> None:
        """Let answers end that would go on for ever, because the server stops. Does not block."""
        if self.live is not None:
            self.live.end()

    async def stop(self) -> None:
        """Finish what is under way, then let go of everything, in the reverse order."""
        await self._open.aclose()


def open_services(settings: Settings, roles: frozenset[str]) -> Services:
    """Open what ``roles`` need. Raises ``SetupError`` with one line for the operator."""
    if not settings.database_url:
        raise SetupError("no database: set CDP_DATABASE_URL, or start everything with `cdp up`")
    database = Database(settings.database_url, pool_size=_POOL_SIZE, application_name="cdp-serve")
    log = open_log(settings, database)
    rules = CurrentRules(database, settings.default_country)
    plan = PlanBook(database)
    analytics = open_analytics(settings, database, log, rules) if "api" in roles else None
    services = Services(
        settings=settings,
        roles=roles,
        database=database,
        log=log,
        tokens=TokenDirectory(database),
        sources=SourceDirectory(database),
        writer=PackingWriter(
            log, settings.linger_ms, max_buffered_bytes=settings.max_buffered_bytes
        ),
        gate=LagGate(settings.max_lag_records),
        rules=rules,
        plan=plan,
        door=Door(log, settings, list_record_kinds(settings.currency), plan.find_check),
        progress=_make_progress(database, analytics),
        analytics=analytics,
    )
    if "api" in roles:
        services.imports = open_imports(services)
        services.live = make_live(services)
        services.suggestions = make_suggestions(services)
        services.changes = make_profile_changes(services)
        services.reads = ReadAudit(database)
    if analytics is not None:
        from cdp.privacy_desk import open_privacy

        services.privacy = open_privacy(
            settings, database, log, analytics.engine, analytics.refresher
        )
        services.destinations = make_destinations(services, analytics)
        services.metrics.registry.register(DestinationCollector(database))
    services.metrics.registry.register(PlanCollector(services.plan))
    if "api" in roles:
        services.metrics.registry.register(IdentityCollector(database))
        services.metrics.registry.register(ArchiveCollector(database))
    if "ingest" in roles:
        services.metrics.watch_ingest(
            lambda: services.writer.buffered_bytes, lambda: services.gate.retry_after > 0
        )
    services.metrics.watch(database, log, analytics.engine if analytics else None)
    return services


def open_analytics(
    settings: Settings, database: Database, log: Log, rules: CurrentRules
) -> Analytics:
    """Open DuckDB's file and make what follows Postgres into it; nothing runs yet."""
    from cdp.activation.destinations_store import list_users
    from cdp.analytics.engine import Engine
    from cdp.analytics.feed import Feed
    from cdp.analytics.rebuild import RebuildingFeed
    from cdp.archive.archive_folder import open_folder
    from cdp.archive.read_parts import iterate_rows
    from cdp.follow import Follower, FollowerState
    from cdp.plan.learner_engine import Learner
    from cdp.segments.refresh import Refresher, UserName
    from cdp.tag_queries import TagQueriesOnDuckDb

    engine = Engine(
        settings.data_dir / ANALYTICS_FILE, settings.duckdb_memory, settings.duckdb_threads
    )

    def read_log_ends() -> tuple[str, dict[int, int]] | None:
        try:
            return log.name, log.end_positions()
        except LogUnavailable:
            return None

    folder = open_folder(settings)
    feed = Feed(database, engine, read_log_ends, partial(iterate_rows, folder) if folder else None)
    refresher = Refresher(
        database,
        engine,
        timezone=settings.timezone,
        time_seconds=settings.segment_time_seconds,
        normalise=rules.normalise,
        currency=settings.currency,
        built_in_share=settings.built_in_share,
        queries=TagQueriesOnDuckDb(engine, settings.query_timeout_seconds),
        find_more_users=lambda tx, name: [
            UserName("destination", one) for one in list_users(tx, name.kind, name.key)
        ],
    )
    place = f"{socket.gethostname()}:{settings.data_dir.resolve()}"
    rebuilding = RebuildingFeed(database, engine, feed, place)
    ender = LossWatch(engine)
    learner = Learner(engine)

    def look_around(state: FollowerState) -> None:
        rebuilding.settle(None if state.failures else state.outcome)
        learner.look()
        ender.look()

    follower = Follower(rebuilding, refresher, after_round=look_around)
    return Analytics(engine, feed, refresher, follower, place)


def open_imports(services: Services) -> ImportRunner:
    """Make what works imports off; nothing runs yet."""
    from cdp.ingest.imports.run_import import Defaults
    from cdp.ingest.imports.runner import ImportRunner
    from cdp.ingest.imports.uploads_folder import Uploads

    settings = services.settings
    return ImportRunner(
        services.database,
        Uploads(settings.data_dir, max_bytes=settings.max_import_bytes),
        services.door,
        services.sources.by_id,
        Defaults(settings.timezone, settings.currency),
        log_name=services.log.name,
        retention=timedelta(days=settings.import_retention_days),
    )


def make_suggestions(services: Services) -> SuggestionRunner:
    """Make what searches for people who may be one; without the extra it only says so."""
    from cdp.identity.suggestions.runner import SuggestionRunner

    settings = services.settings
    hours = settings.suggest_every_hours
    return SuggestionRunner(
        services.database,
        services.rules.normalise,
        settings.data_dir / "suggestions",
        memory=settings.suggest_memory,
        threads=settings.duckdb_threads,
        every=timedelta(hours=hours) if hours else None,
        renews_when_read=settings.suggest_on_read,
    )


def make_destinations(services: Services, analytics: Analytics) -> DestinationRunner:
    """Make what tells destinations of changes; nothing runs yet."""
    from cdp.activate import DestinationPeople
    from cdp.activation.runner import DestinationRunner
    from cdp.activation.send import find_folder, make_send

    settings = services.settings
    return DestinationRunner(
        services.database,
        DestinationPeople(services.database, analytics.engine, settings.timezone),
        make_send(
            find_folder(settings.data_dir, settings.drop_dir),
            seconds=settings.destination_seconds,
            allows_private=settings.allow_private_destinations,
        ),
        retention=timedelta(days=settings.delivery_days),
    )


def make_profile_changes(services: Services) -> ProfileChanges:
    """Make what tells of changes of profiles; nothing runs yet."""
    from cdp.profile_changes import ProfileChanges, ProfileChangesTopic

    settings, database = services.settings, services.database
    has_topic = settings.kafka_bootstrap_servers and settings.profile_changes_topic
    return ProfileChanges(database, ProfileChangesTopic(settings, database) if has_topic else None)


def make_live(services: Services) -> LiveTail:
    """Make what shows the events that arrive; it opens nothing before somebody watches."""
    from cdp.ingest.live.tail import LiveTail
    from cdp.live_lines import make_name_record

    settings, database = services.settings, services.database
    return LiveTail(
        database,
        lambda: open_log(settings, database),
        services.sources.by_id,
        make_name_record(settings.currency),
    )


class LossWatch:
    """Ends this process when it has lost DuckDB's file: the next one opens or makes it anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_ending = False

    def look(self) -> None:
        """End the process in order, once, when the file is lost."""
        if self._is_ending or not self._engine.is_lost:
            return
        self._is_ending = True
        _log.error("analytics_lost", consequence="this process ends, to be started again")
        os.kill(os.getpid(), signal.SIGTERM)


def _make_progress(database: Database, analytics: Analytics | None) -> Progress:
    def read_profiles(log: str) -> dict[int, int]:
        with database.transaction() as connection:
            return read_positions(driver(connection), log)

    def read_analytics(log: str) -> dict[int, int]:
        # Segments and tags are part of it, so the refresh counts, which follows the feed.
        return {} if analytics is None else analytics.refresher.positions(log)

    return Progress(read_profiles, read_analytics)
