"""Decisions taken between batches, some undone: the rest is as if those had never been taken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.errors import Conflict, NotFound
from cdp.identity.by_hand_store import Hand
from cdp.identity.rules import default_rules
from cdp.identity.rules_store import read_rules, write_rules
from cdp.model import Identifier, Observation
from cdp.storage.database import Database, driver
from tests.property.test_resolve import identifiers, observations
from tests.support.identity_rows import (
    apply,
    clear,
    make_store,
    rebuilt_partition,
    stored_partition,
)
from tests.support.identity_world import START
from tests.support.postgres import PostgresServer

_RULES = default_rules("CN").model_copy(update={"hot_limit": 3, "version": 2})
_few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
Deed = tuple[str, tuple[str, ...]]
"""A verb and the identifiers that it is about."""
_deeds = st.tuples(
    st.sampled_from(["merge", "merge_any", "unmerge", "part", "block"]),
    st.lists(identifiers, min_size=2, max_size=2, unique=True).map(tuple),
)
_stories = st.lists(st.tuples(observations(10), st.lists(_deeds, max_size=2)), max_size=4)


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        yield database
        database.close()


def _start_over(database: Database) -> None:
    clear(database)
    with database.transaction() as connection:
        driver(connection).execute("TRUNCATE identity_decisions, identity_rules")
        write_rules(driver(connection), _RULES)


def _do(database: Database, deed: Deed, day: int) -> str | None:
    """Carry out a deed; return the decision's id, or ``None`` when a rule forbade it."""
    verb, texts = deed
    names = [Identifier(*text.split(":", 1)) for text in texts]
    try:
        with database.transaction() as connection:
            at = START + timedelta(days=day)
            hand = Hand(driver(connection), "CN", "token:test", "a test", at)
            match verb:
                case "merge" | "merge_any":
                    anyway = verb == "merge_any"
                    return hand.merge(names, allow_unique_conflict=anyway).decision_id
                case "unmerge":
                    return hand.unmerge(names[:1]).decision_id
                case "part":
                    return hand.unmerge(names).decision_id
                case _:
                    return hand.block(*names[0]).decision_id
    except (Conflict, NotFound):
        return None


def _undo(database: Database, decision_id: str, day: int) -> None:
    with database.transaction() as connection:
        at = START + timedelta(days=day)
        Hand(driver(connection), "CN", "token:test", "undone", at).undo(decision_id)


@_few
@given(_stories)
def test_incremental_equals_rebuilt_whatever_was_decided_between_batches(
    world: Database, story: list[tuple[list[Observation], list[Deed]]]
) -> None:
    _start_over(world)
    store = make_store(_RULES)
    for day, (seen, deeds) in enumerate(story):
        apply(world, store, *seen)
        for number, deed in enumerate(deeds):
            _do(world, deed, 800 + 10 * day + number)
    with world.transaction() as connection:
        rules = read_rules(driver(connection), "CN")
    stored, rebuilt = stored_partition(world), rebuilt_partition(world, rules)
    assert stored.owners == rebuilt.owners
    assert stored.joined_at == rebuilt.joined_at
    assert stored.refusals == rebuilt.refusals


@_few
@given(_stories, st.randoms(use_true_random=False))
def test_all_undone_in_any_order_leaves_what_the_events_alone_say(
    world: Database, story: list[tuple[list[Observation], list[Deed]]], random: object
) -> None:
    # A block keeps its identifier from what arrives while it stands, so it must not be needed.
    story = [(seen, [deed for deed in deeds if deed[0] != "block"]) for seen, deeds in story]
    _start_over(world)
    store = make_store(_RULES)
    made: list[str] = []
    for day, (seen, deeds) in enumerate(story):
        apply(world, store, *seen)
        done = [_do(world, deed, 800 + 10 * day + n) for n, deed in enumerate(deeds)]
        made += [decision_id for decision_id in done if decision_id is not None]
    random.shuffle(made)  # type: ignore[attr-defined]
    for decision_id in made:
        _undo(world, decision_id, 900)
    undone = stored_partition(world)
    _start_over(world)
    apply(world, make_store(_RULES), *(one for seen, _ in story for one in seen))
    never = stored_partition(world)
    assert undone == never
