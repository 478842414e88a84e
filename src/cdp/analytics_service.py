"""DuckDB's file and what keeps it up to date, as the role api opens them."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from functools import partial

from cdp.activation.destinations_store import list_users
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.analytics.rebuild import RebuildingFeed
from cdp.archive.archive_folder import open_folder
from cdp.archive.read_parts import iterate_rows
from cdp.current_rules import CurrentRules
from cdp.follow import Follower, FollowerState
from cdp.keep_typed import TypedKeeper
from cdp.log.port import Log, LogUnavailable
from cdp.plan.learner_engine import Learner
from cdp.runtime.logs import get_logger
from cdp.segments.refresh import Refresher
from cdp.segments.retire_unit import UserName
from cdp.settings import Settings
from cdp.storage.database import Database
from cdp.tag_queries import TagQueriesOnDuckDb

_log = get_logger(__name__)

ANALYTICS_FILE = "analytics.duckdb"


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


def open_analytics(
    settings: Settings, database: Database, log: Log, rules: CurrentRules
) -> Analytics:
    """Open DuckDB's file and make what follows Postgres into it; nothing runs yet."""
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
    typed = TypedKeeper(database, engine)

    def look_around(state: FollowerState) -> None:
        rebuilding.settle(None if state.failures else state.outcome)
        learner.look()
        typed.look()
        ender.look()

    follower = Follower(rebuilding, refresher, after_round=look_around)
    return Analytics(engine, feed, refresher, follower, place)


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
