"""Shared devices that belong to whoever was last authenticated on them, in Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from cdp.identity.apply_rules_store import apply_next
from cdp.identity.change_rules_store import change_rules
from cdp.identity.rules_store import read_rules
from cdp.model import Identifier
from cdp.profiles.profile_store import find_people, read_people
from cdp.storage.database import Database, driver
from tests.support.device_uses import MINUTE, SESSIONS, see, see_in, take_any_day
from tests.support.identity_rows import clear, make_store, rebuilt_partition, stored_partition
from tests.support.identity_world import RULES, START, saw
from tests.support.postgres import PostgresServer

A, B, C = "user_id:a", "user_id:b", "anonymous_id:c"


@pytest.fixture(scope="module")
def module_database(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        take_any_day(database)
        yield database
        database.close()


@pytest.fixture
def world(module_database: Database) -> Database:
    clear(module_database)
    return module_database


def _owners(database: Database) -> list[str]:
    """Return whose the device is, one after the other."""
    spans = stored_partition(database).owners[Identifier("anonymous_id", "c")]
    return [f"{'shared ' if owner[2] else ''}{owner[1]}" for _, _, owner in spans]


def test_a_later_sign_of_the_person_in_another_batch_prolongs_the_session(world: Database) -> None:
    store = make_store(SESSIONS)
    see(world, store, saw(f"{A} {C}", 0), saw(f"{B} {C}", 5))
    see(world, store, saw(f"{B} {C}", 5 + 20 * MINUTE, message="2"))
    see(world, make_store(SESSIONS), saw(f"{A} {C}", 7, message="3"))
    assert _owners(world) == ["a", "b", "shared c", "a", "shared c"]
    assert stored_partition(world).owners == rebuilt_partition(world, SESSIONS).owners


def test_an_event_of_the_device_alone_counts_for_who_was_authenticated(world: Database) -> None:
    see(world, make_store(SESSIONS), saw(f"{A} {C}", 0), saw(f"{B} {C}", 5),
        saw(C, 5 + 10 * MINUTE), saw(C, 6))  # fmt: skip
    asked = [Identifier(*name.split(":")) for name in (A, B, C)]
    with world.transaction() as connection:
        found = [one.profile_no for one in find_people(driver(connection), asked) if one]
        people = read_people(driver(connection), found)
    assert [sum(node.events for node in people[number].nodes) for number in found] == [1, 2, 1]


def _change(database: Database, **members: Any) -> None:
    with database.transaction() as connection:
        document = read_rules(driver(connection), "CN").document()
        change_rules(driver(connection), {**document, **members}, "CN", "token:test")
    more = True
    while more:
        with database.transaction() as connection:
            more = apply_next(driver(connection), "CN", START)


def test_the_setting_holds_for_the_past_once_it_is_on_and_no_more_once_it_is_off(
    database: Database,
) -> None:
    take_any_day(database)
    store = make_store(RULES)
    see(database, store, saw(f"{A} {C}", 0), saw(f"{B} {C}", 5), saw(f"{A} {C}", 6, message="2"))
    before = stored_partition(database)
    _change(database, shared_device="last_authenticated")
    assert _owners(database) == ["a", "b", "shared c", "a", "shared c"]
    _change(database, session_timeout="2d")
    assert _owners(database) == ["a", "b", "a", "shared c"]
    _change(database, shared_device="anonymous")
    assert stored_partition(database) == before


@pytest.mark.parametrize("shares_first", [True, False])
def test_who_makes_a_device_shared_misses_no_event_that_is_being_written(
    world: Database, shares_first: bool
) -> None:
    ours, theirs = make_store(SESSIONS), make_store(SESSIONS)
    see(world, ours, saw(f"{A} {C}", 0))
    see(world, theirs, saw(f"{A} {C}", 1, message="known"))
    known, shares = saw(f"{A} {C}", 5, message="late"), saw(f"{B} {C}", 4)
    first, second = ((ours, shares), (theirs, known))[:: 1 if shares_first else -1]
    with ThreadPoolExecutor(1) as other:
        with world.transaction() as connection:
            see_in(driver(connection), first[0], first[1])
            waiting = other.submit(_see_stubbornly, world, *second)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(30)
    assert _owners(world) == ["a", "b", "shared c", "a", "shared c"]


def _see_stubbornly(database: Database, store: Any, seen: Any) -> None:
    for _ in range(20):
        try:
            see(database, store, seen)
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            continue
        return
    raise AssertionError("the batch never went through")
