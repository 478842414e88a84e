"""What the serving process holds open, and in which order it opens and closes it.

Stages are loaded by role: a process that only ingests never loads DuckDB.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cdp.access.read_audit import ReadAudit
from cdp.access.token_directory import TokenDirectory
from cdp.activation.destination_metrics import read_destination_metrics
from cdp.archive.archive_metrics import read_archive_metrics
from cdp.current_rules import CurrentRules
from cdp.errors import SetupError
from cdp.identity.identity_metrics import IdentityCollector
from cdp.ingest.door import Door
from cdp.ingest.lag_gate import LagGate
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.lag_watch import LagWatch
from cdp.log.open import open_log
from cdp.log.port import Log
from cdp.plan.plan_book import PlanBook, PlanCollector
from cdp.profiles.profile_metrics import read_profile_metrics
from cdp.receipts import Progress
from cdp.record_kinds import list_record_kinds
from cdp.runtime.metrics import Metrics
from cdp.runtime.recent_errors import RecentErrors
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.storage.database_collector import DatabaseCollector
from cdp.storage.positions import read_positions

if TYPE_CHECKING:
    from cdp.activation.runner import DestinationRunner
    from cdp.analytics_service import Analytics
    from cdp.identity.suggestions.runner import SuggestionRunner
    from cdp.ingest.imports.runner import ImportRunner
    from cdp.ingest.live.tail import LiveTail
    from cdp.privacy.runner import PrivacyRunner
    from cdp.profile_changes import ProfileChanges

# Threads that serve requests wait for connections rather than for each other.
_POOL_SIZE = 12


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
    analytics = None
    if "api" in roles:
        from cdp.analytics_service import open_analytics

        analytics = open_analytics(settings, database, log, rules)
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
        services.metrics.registry.register(DatabaseCollector(database, read_destination_metrics))
    services.metrics.registry.register(PlanCollector(services.plan))
    if "api" in roles:
        services.metrics.registry.register(IdentityCollector(database))
        for read in (read_archive_metrics, read_profile_metrics):
            services.metrics.registry.register(DatabaseCollector(database, read))
    if "ingest" in roles:
        services.metrics.watch_ingest(
            lambda: services.writer.buffered_bytes, lambda: services.gate.retry_after > 0
        )
    services.metrics.watch(database, log, analytics.engine if analytics else None)
    return services


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


def _make_progress(database: Database, analytics: Analytics | None) -> Progress:
    def read_profiles(log: str) -> dict[int, int]:
        with database.transaction() as connection:
            return read_positions(driver(connection), log)

    def read_analytics(log: str) -> dict[int, int]:
        # Segments and tags are part of it, so the refresh counts, which follows the feed.
        return {} if analytics is None else analytics.refresher.positions(log)

    return Progress(read_profiles, read_analytics)
