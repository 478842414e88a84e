"""The serving process: ingest in front, the API behind it, one port.

request ─► count and catch ─► ingest routes (plain ASGI) ─► guard ─► FastAPI routes
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI

from cdp import __version__, receipts
from cdp.access import routes as access_routes
from cdp.access.guard import Guard, read_requirements
from cdp.access.read_audit import WatchReads
from cdp.errors import SetupError
from cdp.ingest.asgi import IngestApp
from cdp.ingest.hooks_asgi import HooksApp
from cdp.openapi import install_openapi
from cdp.profiles.page_asgi import ServePages
from cdp.profiles.pages import Pages
from cdp.profiles.people import People
from cdp.record_kinds import list_record_kinds
from cdp.runtime import example_routes, health, metrics, status
from cdp.runtime.error_answers import install_error_answers
from cdp.runtime.health import NamedCheck, remember_success
from cdp.services import Services, open_services
from cdp.serving import AnswerHeads, CatchFaults, ReadFormsAsJson, Serving
from cdp.settings import Settings
from cdp.storage.migrate import check_schema

if TYPE_CHECKING:
    from cdp.activation.runner import DestinationRunner
    from cdp.analytics_service import Analytics
    from cdp.ingest.imports.runner import ImportRunner
    from cdp.ingest.replay_store import Replayer
    from cdp.privacy.runner import PrivacyRunner
    from cdp.segments.service import Segments

_SCHEMA_IS_CHECKED_EVERY = 30.0


def build_app(settings: Settings, roles: frozenset[str]) -> Serving:
    """Return the application for ``roles`` (``ingest``, ``api``); ``database_url`` must be set.

    Opens what it needs; its lifespan starts the background work and closes everything. Raises
    ``SetupError`` with one line for the operator.
    """
    services = open_services(settings, roles)
    inner = ReadFormsAsJson(AnswerHeads(build_api(services)))
    api = CatchFaults(inner, services.errors)
    writer = services.writer if "ingest" in roles else None
    kinds = list_record_kinds(settings.currency)
    plan = services.plan
    hooks = HooksApp(
        services.sources,
        writer,
        services.door,
        settings,
        api,
        gate=services.gate,
        on_refused=services.metrics.count_refusal,
    )
    door = IngestApp(
        services.sources,
        writer,
        settings,
        hooks,
        kinds,
        plan.find_check,
        plan.list_tracked,
        gate=services.gate,
        on_refused=services.metrics.count_refusal,
    )
    return Serving(door, services)


def build_api(services: Services) -> FastAPI:
    """Return the FastAPI part: health and metrics in every role, all else in the role api."""
    pages = _make_pages(services)
    routers = [
        health.create_router(list(_list_checks(services))),
        metrics.create_router(services.metrics),
        example_routes.create_router(services.settings),
        *(
            _list_routers(services, services.analytics, pages)
            if services.analytics and pages
            else ()
        ),
    ]
    guarded = read_requirements(routers)
    app = FastAPI(
        title="cdp",
        version=__version__,
        description="A customer data platform: events in, people and segments out.",
        redoc_url=None,
        redirect_slashes=False,
        # Without a type the body is JSON: tokens travel in a header that no form can send.
        strict_content_type=False,
    )
    app.state.progress = services.progress
    for router in routers:
        app.include_router(router)
    # The last one added stands outermost.
    if pages is not None:
        app.add_middleware(ServePages, pages=pages)
    if services.reads is not None:
        app.add_middleware(WatchReads, keep=services.reads.keep)
    app.add_middleware(Guard, routes=guarded, tokens=services.tokens)
    install_error_answers(app)
    install_openapi(app, guarded, with_ingest="ingest" in services.roles)
    return app


def _list_routers(services: Services, analytics: Analytics, pages: Pages) -> Iterator[APIRouter]:
    """Give the routers of the role api; a path that two could match belongs to the first."""
    from cdp import account_activity_routes
    from cdp.accounts import routes as account_routes
    from cdp.analytics import rebuild_routes
    from cdp.analytics import routes as analytics_routes
    from cdp.archive import retention_routes
    from cdp.archive import routes as archive_routes
    from cdp.archive.open_archive import open_archiver
    from cdp.identity import routes as identity_routes
    from cdp.identity.suggestions import routes as suggestion_routes
    from cdp.ingest import rejected_routes, source_routes
    from cdp.ingest import routes as ingest_routes
    from cdp.ingest.live import routes as live_routes
    from cdp.kept_facts import keep_facts
    from cdp.orders import rates_routes
    from cdp.orders import routes as order_routes
    from cdp.plan import routes as plan_routes
    from cdp.profiles import feed_routes, search_routes, trait_names_routes, visits_routes
    from cdp.profiles import routes as profile_routes
    from cdp.profiles.profile_names import parse_profile_name, restore_slashes
    from cdp.segments import members_routes, tags_routes
    from cdp.segments import routes as segment_routes
    from cdp.service import routes as service_routes

    database, settings, log = services.database, services.settings, services.log
    normalise = services.rules.normalise
    people = profile_routes.People(database, normalise)
    yield access_routes.create_router(
        database,
        services.tokens,
        people.list_ids,
        services.reads.flush if services.reads else lambda: None,
    )
    yield receipts.create_router(services.progress)
    yield status.create_router(
        database,
        log,
        analytics.engine,
        services.roles,
        services.errors,
        data_dir=settings.data_dir,
        describe_follower=lambda: analytics.follower.state().show(),
    )
    yield source_routes.create_router(database, services.sources)
    yield ingest_routes.create_router(database, log)
    yield rejected_routes.create_router(database, log, _make_replayer(services))
    if services.live is not None:
        yield live_routes.create_router(database, services.live)
    if services.imports is not None:
        yield _make_import_routes(services, services.imports)
    yield identity_routes.create_router(
        database,
        services.rules.get,
        partial(parse_profile_name, normalise=services.rules.read_name),
        services.rules.forget,
    )
    if services.suggestions is not None:
        yield suggestion_routes.create_router(database, services.rules.get, services.suggestions)
    yield plan_routes.create_router(database, analytics.engine, services.plan.look)
    if services.privacy is not None:
        yield _make_privacy_routes(services, services.privacy)
    yield feed_routes.create_router(database)
    yield search_routes.create_router(database, normalise)
    yield trait_names_routes.create_router(database)
    archive = open_archiver(settings, database, keep_facts)
    yield _make_consent_routes(services)
    yield visits_routes.create_router(pages.people)
    yield profile_routes.create_person_router(pages)
    yield archive_routes.create_router(database, archive)
    yield retention_routes.create_router(database)
    yield account_routes.create_router(database, restore_slashes, settings.currency)
    yield account_activity_routes.create_router(database, restore_slashes)
    find_person = profile_routes.People(database, services.rules.read_name).find_number
    yield order_routes.create_router(database, find_person, restore_slashes, settings.currency)
    yield rates_routes.create_router(database)
    yield service_routes.create_router(find_person)
    yield analytics_routes.create_router(analytics.engine, settings)
    yield rebuild_routes.create_router(database, analytics.place)
    segments = _make_segments(services, analytics)
    yield segment_routes.create_router(segments)
    yield members_routes.create_router(segments)
    yield tags_routes.create_router(segments)
    if services.destinations is not None:
        yield _make_destination_routes(services, services.destinations)


def _make_pages(services: Services) -> Pages | None:
    if services.analytics is None:
        return None
    from cdp.archive.archive_folder import open_folder
    from cdp.archive.archived_events import ArchivedEvents
    from cdp.included_parts import list_parts

    folder = open_folder(services.settings)
    people = People(
        services.database,
        services.rules.normalise,
        ArchivedEvents(folder) if folder else None,
    )
    return Pages(people, list_parts(services.rules.get, services.settings.currency))


def _make_consent_routes(services: Services) -> APIRouter:
    from cdp import consent_routes
    from cdp.profiles.routes import People

    desk = consent_routes.ConsentDesk(
        People(services.database, services.rules.normalise),
        services.door,
        services.sources.by_id,
        partial(receipts.encode, services.log.name),
    )
    return consent_routes.create_router(desk)


def _make_import_routes(services: Services, runner: ImportRunner) -> APIRouter:
    from cdp.ingest.imports import routes as import_routes
    from cdp.ingest.imports.start_import import Imports

    imports = Imports(
        services.database, services.sources, runner, dedup_days=services.settings.dedup_days
    )
    return import_routes.create_router(
        services.database, imports, partial(receipts.encode, services.log.name)
    )


def _make_destination_routes(services: Services, runner: DestinationRunner) -> APIRouter:
    from cdp.activate import check_references
    from cdp.activation import routes as destination_routes
    from cdp.activation.service import Destinations

    return destination_routes.create_router(
        Destinations(
            services.database,
            runner.people,
            runner.send,
            check_references,
            runner.wake,
            services.settings.allow_private_destinations,
        )
    )


def _make_privacy_routes(services: Services, runner: PrivacyRunner) -> APIRouter:
    from cdp.privacy import routes as privacy_routes
    from cdp.privacy.archives_folder import Archives

    return privacy_routes.create_router(
        services.database,
        services.rules.normalise,
        Archives(services.settings.data_dir),
        runner.wake,
    )


def _make_replayer(services: Services) -> Replayer:
    from cdp.ingest.hook_replay import read_delivery
    from cdp.ingest.replay_store import Replayer

    names = ["events", *(k.list_name for k in list_record_kinds(services.settings.currency))]
    return Replayer(services.door, names, services.sources.by_id, {"hooks": read_delivery})


def _make_segments(services: Services, analytics: Analytics) -> Segments:
    from cdp.profiles.routes import People
    from cdp.segments.service import FoundPerson, Segments
    from cdp.tag_queries import TagQueriesOnDuckDb

    people = People(services.database, services.rules.normalise)

    def find_person(name: str) -> FoundPerson:
        with people.find(name) as (_, asked, found):
            return FoundPerson(found.profile_no, found.profile_id, asked)

    return Segments(
        services.database,
        analytics.engine,
        analytics.refresher,
        find_person,
        services.settings.timezone,
        services.rules.normalise,
        TagQueriesOnDuckDb(analytics.engine, services.settings.query_timeout_seconds),
    )


def _list_checks(services: Services) -> Iterator[NamedCheck]:
    on_kafka = bool(services.settings.kafka_bootstrap_servers)
    # Ingest on Kafka goes on with the keys it knows.
    needs_database = "api" in services.roles or not on_kafka

    def check_database() -> str | None:
        with services.database.engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        return None

    def check_log() -> str | None:
        services.log.check()
        return None

    def check_migrations() -> str | None:
        try:
            check_schema(services.database)
        except SetupError as error:
            return str(error)
        return None

    schema = remember_success(check_migrations, _SCHEMA_IS_CHECKED_EVERY)
    yield NamedCheck("postgres", check_database, needs_database)
    yield NamedCheck("log", check_log)
    yield NamedCheck("schema", schema, needs_database)
    if services.analytics is not None:
        follower = services.analytics.follower

        def check_feed() -> str | None:
            state = follower.state()
            if not state.running:
                return "not running"
            return None if state.is_well else f"failing: {state.last_error}"

        yield NamedCheck("feed", check_feed)
