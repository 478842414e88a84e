"""What every worker does for identity beside its work: other rules, what they mean for people of

before, and what full components take in, piece by piece.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg
import sqlalchemy as sa

from cdp.identity.apply_rules_store import apply_next
from cdp.identity.fill_forms_store import fill_next
from cdp.identity.identity_store import IdentityStore
from cdp.identity.let_in_store import let_in_next
from cdp.identity.replay_tally import tally
from cdp.identity.tally_store import flush
from cdp.runtime.clock import now
from cdp.storage.database import Database, driver

_REST = 10
"""What full components take in takes at most this part of the time, so that events go on."""


def look_after_identity(database: Database, identity: IdentityStore, stop: threading.Event) -> None:
    """Every second, look for other rules, so that also a worker without work knows them, and

    apply them to the people of before, unless another worker does. Adds up what replays came to.
    """
    quiet_until = 0.0
    while not stop.wait(1):
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            with database.snapshot() as connection:
                identity.look_for_rules(driver(connection))
            while not stop.is_set() and _apply_rules(database, identity.rules.country):
                pass
            while not stop.is_set() and _fill_forms(database, identity.rules.country):
                pass
            if time.monotonic() >= quiet_until:
                started = time.monotonic()
                _let_in(database, identity.rules.country)
                quiet_until = started + _REST * (time.monotonic() - started)
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            flush(database, tally)


def _apply_rules(database: Database, country: str) -> bool:
    with database.transaction() as connection:
        return apply_next(driver(connection), country, now())


def _let_in(database: Database, country: str) -> bool:
    with database.transaction() as connection:
        return let_in_next(driver(connection), country, now())


def _fill_forms(database: Database, country: str) -> bool:
    with database.transaction() as connection:
        return fill_next(driver(connection), country, now())
