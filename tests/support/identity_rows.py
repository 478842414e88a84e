"""Observations into a real database, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from cdp.identity.identity_store import IdentityStore
from cdp.identity.rebuild_store import Partition, read_partition, recompute_all
from cdp.identity.rules import Rules
from cdp.model import Observation
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, driver
from tests.support.identity_world import RULES, START

SALT = b"salt of the tests"


def make_store(rules: Rules = RULES, *, component_cap: int = 5_000) -> IdentityStore:
    """Return a store that has seen nothing yet, as a worker just started."""
    return IdentityStore(rules, SALT, component_cap=component_cap)


def apply(
    database: Database, store: IdentityStore, *observations: Observation
) -> tuple[list[int | None], BatchChanges]:
    """Commit one batch; return the home nodes and what changed."""
    changes = BatchChanges()
    with database.transaction() as connection:
        tx = driver(connection)
        batch_id = open_batch(tx)
        homes = store.apply(tx, batch_id, observations, changes, START)
        close_batch(tx, batch_id, changes, events=len(observations))
    return [home and home.node_id for home in homes], changes


def apply_stubbornly(
    database: Database, store: IdentityStore, observations: Sequence[Observation]
) -> int:
    """Commit one batch as a worker does: do it again when Postgres asks for it. Returns tries."""
    for attempt in range(1, 50):
        try:
            apply(database, store, *observations)
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            continue
        return attempt
    raise AssertionError("the batch never went through")


def stored_partition(database: Database) -> Partition:
    """Return who is who as stored."""
    with database.transaction() as connection:
        return read_partition(driver(connection))


def rebuilt_partition(database: Database, rules: Rules = RULES) -> Partition:
    """Return who is who from the stored facts alone."""
    with database.transaction() as connection:
        return recompute_all(driver(connection), rules)


def clear(database: Database) -> None:
    """Empty the tables of identity."""
    with database.transaction() as connection:
        driver(connection).execute(
            """TRUNCATE nodes, links, component_locks, node_profiles, profiles, refusals,
                        profile_changes, batches, identifier_forms, identity_suggestions, events,
                        refused_traits"""
        )


def query(database: Database, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """Return the rows of a statement."""
    with database.transaction() as connection:
        return list(driver(connection).execute(statement, parameters).fetchall())
