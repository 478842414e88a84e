"""Who has a shared device when is a function of the set of events, in memory and in Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.model import Observation
from cdp.storage.database import Database
from tests.support.device_uses import MINUTE, SESSIONS, see, settle, take_any_day
from tests.support.identity_rows import clear, make_store, rebuilt_partition, stored_partition
from tests.support.identity_world import World, saw
from tests.support.postgres import PostgresServer

_RULES = SESSIONS.model_copy(update={"hot_limit": 4, "session_timeout": timedelta(minutes=30)})
_NAMES = [
    "user_id:a", "user_id:b", "user_id:c", "email:e@x", "email:f@x", "anonymous_id:c",
    "device_id:d",
]  # fmt: skip


@st.composite
def uses(draw: st.DrawFn) -> list[Observation]:
    """People who take turns on few devices, minutes and sometimes months apart."""
    events = draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True),
                st.integers(0, 90),
                st.sampled_from([0, 0, 0, 200]),
                st.booleans(),
                st.sampled_from([0, 0, 0, 10]),
            ),
            min_size=2,
            max_size=20,
        )
    )
    return [
        saw(
            " ".join(names), day + minute * MINUTE, message=f"m{number}", public=public,
            received=day + late + 0.1,
        )
        for number, (names, minute, day, public, late) in enumerate(events)
    ]  # fmt: skip


def _tell(world: World, seen: list[Observation]) -> object:
    world.resolution = settle(world, [one for one in seen if one.trusted or not _is_late(one)])
    name = {node_id: f"{node.type}:{node.value}" for node_id, node in world.nodes.items()}
    return {
        name[node_id]: [
            (part.since, part.until, name[part.profile.node_id], part.profile.shared)
            for part in parts
        ]
        for node_id, parts in world.resolution.assignments.items()
    }


def _is_late(seen: Observation) -> bool:
    assert seen.received_at is not None
    return seen.at < seen.received_at - timedelta(days=7)


@given(uses(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(seen: list[Observation], random: object) -> None:
    again = list(seen)
    random.shuffle(again)  # type: ignore[attr-defined]
    assert _tell(World(*again, rules=_RULES), again) == _tell(World(*seen, rules=_RULES), seen)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        take_any_day(database)
        yield database
        database.close()


_few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@_few
@given(uses(), st.lists(st.integers(0, 20), max_size=5), st.randoms(use_true_random=False))
def test_any_cut_into_batches_comes_to_what_all_events_say(
    database: Database, seen: list[Observation], cuts: list[int], random: object
) -> None:
    arrived = list(seen)
    random.shuffle(arrived)  # type: ignore[attr-defined]
    clear(database)
    store = make_store(_RULES)
    edges = sorted({0, len(seen), *(cut % (len(seen) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        see(database, store, *arrived[start:end])
    stored = stored_partition(database)
    assert stored.owners == rebuilt_partition(database, _RULES).owners
    assert {
        str(name): [(since, until, f"{o[0]}:{o[1]}", o[2] == "shared") for since, until, o in spans]
        for name, spans in stored.owners.items()
    } == _tell(World(*seen, rules=_RULES), seen)
