"""New people by the hundred are copied; whoever is there already is taken over."""

from __future__ import annotations

from datetime import timedelta

from cdp.identity.links_store import read_links
from cdp.identity.nodes_store import FreshNode, find_nodes, insert_nodes, take_node_ids
from cdp.identity.sightings import NodeSighting
from cdp.model import Identifier, Observation
from cdp.storage.database import Database, driver
from tests.support.identity_rows import (
    apply,
    make_store,
    query,
    rebuilt_partition,
    stored_partition,
)
from tests.support.identity_world import START, saw

_CROWD = 120


def _draw_crowd(day: int) -> list[Observation]:
    return [saw(f"user_id:u{n} anonymous_id:a{n}", day, source=n % 2 + 1) for n in range(_CROWD)]


def test_a_crowd_is_who_a_rebuild_says_it_is(database: Database) -> None:
    store = make_store()
    homes, changes = apply(database, store, *_draw_crowd(1), saw("device_id:d", 2))
    assert stored_partition(database) == rebuilt_partition(database)
    assert query(database, "SELECT count(*), count(DISTINCT profile_no) FROM node_profiles") == [
        (2 * _CROWD + 1, _CROWD + 1)
    ]
    assert query(
        database, "SELECT change, details, count(*) FROM profile_changes GROUP BY 1, 2"
    ) == [("created", {}, _CROWD + 1)]
    assert len(set(homes)) == len(changes.profiles) == _CROWD + 1


def test_of_a_crowd_those_are_left_out_whom_somebody_made_meanwhile(database: Database) -> None:
    apply(database, make_store(), saw("user_id:u7", 5))
    with database.transaction() as connection:
        tx = driver(connection)
        numbers = take_node_ids(tx, _CROWD)
        made = insert_nodes(tx, [_make_node(n, number) for n, number in enumerate(numbers)])
    assert made == {*numbers} - {numbers[7]}
    rows = query(
        database,
        """SELECT value, events, source_numbers, component_id = node_id, profile_id FROM nodes
            WHERE value IN ('u7', 'u8', 'u9') ORDER BY value""",
    )
    assert [row[1:4] for row in rows] == [(1, [1], True), (3, [1, 2], True), (3, [1, 2], True)]
    assert [row[4] for row in rows[1:]] == ["prf_8", "prf_9"]


def test_a_crowd_is_copied_with_all_that_was_seen_of_it(database: Database) -> None:
    with database.transaction() as connection:
        tx = driver(connection)
        numbers = take_node_ids(tx, _CROWD)
        made = insert_nodes(tx, [_make_node(n, number) for n, number in enumerate(numbers)])
    assert made == {*numbers}
    assert query(
        database,
        """SELECT first_seen, last_seen, events, source_numbers, variant, quarantined
             FROM nodes WHERE profile_id = 'prf_3'""",
    ) == [(START, START + timedelta(hours=1), 3, [1, 2], "", False)]


def _make_node(n: int, number: int) -> FreshNode:
    seen = NodeSighting(START, START + timedelta(hours=1), {2, 1}, 3)
    return FreshNode(number, Identifier("user_id", f"u{n}"), f"prf_{n}", number, seen)


def test_what_is_copied_of_a_link_is_what_is_read_of_it(database: Database) -> None:
    seen = [saw("user_id:a anonymous_id:b", day, source=3) for day in (1, 2, 5, 9)]
    apply(database, make_store(), *seen)
    with database.transaction() as connection:
        tx = driver(connection)
        names = list(seen[0].identifiers)
        ids = tuple(sorted(node.node_id for node in find_nodes(tx, names).values()))
        (fact,) = read_links(tx, [f"1:{ids[0]},{ids[1]}"]).values()
    first = seen[0].at.toordinal()
    assert fact.node_ids == ids
    assert (fact.first_at, fact.first_message_id) == (seen[0].at, seen[0].message_id)
    assert fact.active_days == (
        (first, first + 2),
        (first + 4, first + 5),
        (first + 8, first + 9),
    )
    assert query(database, "SELECT first_source_number, kind FROM links") == [(3, "seen")]
