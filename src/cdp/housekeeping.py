"""What every worker does beside its work, in threads of its own, for the whole installation."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta

import psycopg
import sqlalchemy as sa

from cdp.access.audit_store import drop_audit_before
from cdp.log.port import Log, LogUnavailable
from cdp.profiles.feed_store import drop_feed_before
from cdp.runtime.clock import now
from cdp.segments.tag_retention_store import drop_tag_history_before
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.storage.ledger_packing import pack_ledger
from cdp.storage.outcomes_store import drop_refused_before
from cdp.storage.positions import read_positions

_LOOK_SECONDS = 60
_HOUR = 3600


def drop_old_days(settings: Settings, database: Database, log: Log, stop: threading.Event) -> None:
    """Once an hour until ``stop`` is set, drop the days of the log that are past retention."""
    while not stop.is_set():
        with suppress(sa.exc.SQLAlchemyError, LogUnavailable):
            with database.transaction() as connection:
                done = read_positions(driver(connection), log.name)
            log.drop_before(now() - timedelta(days=settings.log_retention_days), done)
        stop.wait(_HOUR)


def drop_old_refusals(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Once an hour until ``stop`` is set, forget refused events that are past retention."""
    while not stop.is_set():
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            before = now() - timedelta(days=settings.rejected_days)
            while drop_refused_before(database, before) and not stop.is_set():
                pass
        stop.wait(_HOUR)


def drop_old_tellings(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Once an hour until ``stop`` is set, forget what is past retention of audit and changes."""
    while not stop.is_set():
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            before = now() - timedelta(days=settings.profile_changes_days)
            for _ in drop_feed_before(database, before):
                if stop.is_set():
                    return
            while settings.audit_days and not stop.is_set():
                with database.transaction() as connection:
                    before = now() - timedelta(days=settings.audit_days)
                    if not drop_audit_before(driver(connection), before):
                        break
        stop.wait(_HOUR)


def drop_old_tag_values(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Once an hour until ``stop`` is set, forget values of tags that were closed long ago."""
    while not stop.is_set():
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            before = now() - timedelta(days=settings.tag_history_days)
            for _ in drop_tag_history_before(database, before):
                if stop.is_set():
                    return
        stop.wait(_HOUR)


def keep_ledger_small(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Until ``stop`` is set, pack the ledger when it is time; an outage only delays it."""
    while not stop.wait(_LOOK_SECONDS):
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            pack_ledger(database, now().date(), keep_days=settings.dedup_days, wait=stop.wait)
