"""The stored partition is the one that the facts come to, however they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.identity.rules import default_rules
from cdp.model import Observation
from cdp.storage.database import Database
from tests.property.test_resolve import observations
from tests.support.identity_rows import (
    apply,
    clear,
    make_store,
    query,
    rebuilt_partition,
    stored_partition,
)
from tests.support.postgres import PostgresServer

_RULES = default_rules("CN").model_copy(update={"hot_limit": 3})


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        yield database
        database.close()


def _post(
    database: Database, seen: list[Observation], cuts: list[int], *, restart: bool = False
) -> None:
    clear(database)
    store = make_store(_RULES)
    edges = sorted({0, len(seen), *(cut % (len(seen) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        if restart:
            store = make_store(_RULES)
        apply(database, store, *seen[start:end])


_few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@_few
@given(observations(30), st.lists(st.integers(0, 30), max_size=6), st.booleans())
def test_incremental_equals_rebuilt_after_any_cut_into_batches(
    world: Database, seen: list[Observation], cuts: list[int], restart: bool
) -> None:
    _post(world, seen, cuts, restart=restart)
    stored, rebuilt = stored_partition(world), rebuilt_partition(world, _RULES)
    assert stored.owners == rebuilt.owners
    assert stored.joined_at == rebuilt.joined_at
    assert stored.refusals == rebuilt.refusals


@_few
@given(
    observations(30), st.lists(st.integers(0, 30), max_size=6), st.randoms(use_true_random=False)
)
def test_any_order_with_duplicates_stores_what_one_batch_stores(
    world: Database, seen: list[Observation], cuts: list[int], random: object
) -> None:
    _post(world, seen, [])
    wanted = stored_partition(world)
    ids = query(world, "SELECT profile_id FROM profiles ORDER BY 1")
    again = seen + seen[: len(seen) // 2]
    random.shuffle(again)  # type: ignore[attr-defined]
    _post(world, again, cuts)
    assert stored_partition(world) == wanted
    assert query(world, "SELECT profile_id FROM profiles ORDER BY 1") == ids


@_few
@given(observations(30), st.lists(st.integers(0, 30), max_size=6))
def test_every_profile_id_ever_issued_leads_to_a_live_profile_in_one_hop(
    world: Database, seen: list[Observation], cuts: list[int]
) -> None:
    _post(world, seen, cuts)
    stale = query(
        world,
        """SELECT s.* FROM node_profiles s LEFT JOIN profiles p USING (profile_no)
            WHERE p.profile_no IS NULL""",
    )
    lost = query(
        world,
        """SELECT c.profile_id FROM profile_changes c
             LEFT JOIN nodes n ON n.profile_id = c.profile_id
             LEFT JOIN node_profiles s ON s.node_id = n.node_id AND s.since = '-infinity'
            WHERE s.profile_no IS NULL""",
    )
    empty = query(
        world,
        """SELECT p.profile_no FROM profiles p LEFT JOIN node_profiles s USING (profile_no)
            WHERE s.node_id IS NULL""",
    )
    assert (stale, lost, empty) == ([], [], [])


@_few
@given(observations(30), st.lists(st.integers(0, 30), max_size=6))
def test_doing_it_all_again_writes_no_history_and_moves_nobody(
    world: Database, seen: list[Observation], cuts: list[int]
) -> None:
    _post(world, seen, cuts)
    history = query(world, "SELECT count(*) FROM profile_changes")
    _, changes = apply(world, make_store(_RULES), *seen)
    assert query(world, "SELECT count(*) FROM profile_changes") == history
    assert not changes.moved_nodes
    assert not changes.merges
