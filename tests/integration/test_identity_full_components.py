"""A full component takes in no more at once; in the end everybody is who the facts say."""

from __future__ import annotations

from itertools import permutations

import pytest

from cdp.identity.let_in_store import let_in_next
from cdp.storage.database import Database, driver
from tests.integration.test_identity_by_hand import groups, rebuilt_is_stored
from tests.support.identity_rows import apply, make_store, query
from tests.support.identity_world import START, saw

SEEN = [
    saw("user_id:a anonymous_id:c", 0),
    saw("user_id:a anonymous_id:d", 1),
    saw("user_id:a email:new@x.cn", 2),
    saw("user_id:b email:new@x.cn phone:+8612", 3),
    saw("phone:+8612 device_id:e", 4),
]
CAP = 3


def _let_in(database: Database, most_nodes: int = 1000) -> int:
    rounds = 0
    while True:
        with database.transaction() as connection:
            if not let_in_next(driver(connection), "CN", START, most_nodes=most_nodes):
                return rounds
        rounds += 1
        assert rounds < 20


@pytest.mark.parametrize("order", list(permutations(range(5)))[::17])
def test_what_a_full_component_withheld_is_let_in_whatever_the_order(
    database: Database, order: tuple[int, ...]
) -> None:
    store = make_store(component_cap=CAP)
    for position in order:
        apply(database, store, SEEN[position])
    _let_in(database)
    assert rebuilt_is_stored(database)
    expected = {"user_id:a", "anonymous_id:c", "anonymous_id:d", "email:new@x.cn"}
    assert frozenset(expected) in groups(database)


def test_a_component_beyond_all_bounds_is_left_as_it_is(database: Database) -> None:
    store = make_store(component_cap=CAP)
    for one in SEEN:
        apply(database, store, one)
    assert _let_in(database, most_nodes=3) == 0
    assert query(database, "SELECT count(*) FROM refusals WHERE reason = 'limit'") != [(0,)]


def test_nothing_withheld_costs_nothing(database: Database) -> None:
    apply(database, make_store(), *SEEN)
    assert _let_in(database) == 0
