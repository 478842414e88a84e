"""Observations written as events too, so that it is known who was authenticated when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cdp.identity.device_sessions import Run, assign_sessions, list_uses
from cdp.identity.facts import Resolution
from cdp.identity.identity_store import IdentityStore
from cdp.identity.rules import Rules
from cdp.model import Event, Observation, Source
from cdp.profiles.profile_write_store import write_events
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, Driver, driver
from tests.support.identity_world import RULES, START, World

SESSIONS = RULES.model_copy(update={"shared_device": "last_authenticated"})
MINUTE = 1 / 1440
"""Of a day."""


def settle(world: World, seen: Iterable[Observation], rules: Rules = SESSIONS) -> Resolution:
    """Return who is who in ``world`` when ``seen`` says who was authenticated when."""
    uses = list_uses(world.resolution, world.nodes, world.links, rules)
    found: dict[int, list[tuple[datetime, int, int]]] = {}
    for rank, use in enumerate(uses):
        for one in seen:
            ids = tuple(sorted(world.ids[name] for name in one.identifiers))
            if (one.trusted, ids) == (use.link.trusted, use.link.node_ids) and one.at >= use.since:
                found.setdefault(use.device, []).append((one.at, rank, use.top))
    runs = {
        device: [Run(top, at, at) for at, _, top in sorted(moments)]
        for device, moments in found.items()
    }
    return assign_sessions(world.resolution, runs, rules.session_timeout)


def take_any_day(database: Database) -> None:
    """Let the timeline take events of any day of receipt."""
    with database.transaction() as connection:
        driver(connection).execute("CREATE TABLE events_of_any_day PARTITION OF events DEFAULT")


def see(database: Database, store: IdentityStore, *seen: Observation) -> None:
    """Commit one batch: who is who, and the events."""
    with database.transaction() as connection:
        see_in(driver(connection), store, *seen)


def see_in(tx: Driver, store: IdentityStore, *seen: Observation) -> None:
    """Do so in a transaction that the caller commits."""
    changes, batch_id = BatchChanges(), open_batch(tx)
    homes = store.apply(tx, batch_id, seen, changes, START)
    placed = [
        (_make_event(one), home and home.node_id) for one, home in zip(seen, homes, strict=True)
    ]
    write_events(tx, batch_id, placed, [home and home.link_id for home in homes])
    close_batch(tx, batch_id, changes, events=len(seen))


def _make_event(seen: Observation) -> Event:
    received_at = seen.received_at or seen.at + timedelta(seconds=1)
    source = Source("src", seen.source_number, "web", "web")
    return Event(
        source, seen.message_id, "track", "Seen", seen.at, received_at, seen.identifiers, b"{}",
        b"{}",
    )  # fmt: skip
