"""Observations into a real Postgres: what is written, and what several workers make of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cdp.identity.find_store import find_profile, list_identifiers
from cdp.identity.identity_store import IdentityStore
from cdp.identity.rules_store import ensure_salt, read_rules, write_rules
from cdp.model import Identifier, Observation
from cdp.storage.batches import BatchChanges, open_batch
from cdp.storage.database import Database, driver
from tests.support.identity_rows import (
    apply,
    apply_stubbornly,
    clear,
    make_store,
    query,
    rebuilt_partition,
    stored_partition,
)
from tests.support.identity_world import RULES, START, saw

A, B, C, D = "user_id:a", "user_id:b", "anonymous_id:c", "device_id:d"


def _find(database: Database, text: str) -> str | None:
    kind, _, value = text.partition(":")
    with database.transaction() as connection:
        found = find_profile(driver(connection), Identifier(kind, value))
    return None if found is None else found.profile_id


def _identifiers(database: Database, text: str) -> dict[str, tuple[str, ...]]:
    kind, _, value = text.partition(":")
    with database.transaction() as connection:
        found = find_profile(driver(connection), Identifier(kind, value))
        assert found is not None
        listed = list_identifiers(driver(connection), found.profile_no)
    return {f"{one.type}:{one.value}": one.also_claimed_by for one in listed}


def test_an_event_hangs_on_its_strongest_identifier(database: Database) -> None:
    homes, _ = apply(database, make_store(), saw(f"{C} {A}", 0), saw(C, 1), saw(f"{C} {A}", 2))
    rows = dict(query(database, "SELECT type, node_id FROM nodes"))
    assert homes == [rows["user_id"], rows["anonymous_id"], rows["user_id"]]
    assert query(database, "SELECT type, events FROM nodes ORDER BY type") == [
        ("anonymous_id", 1),
        ("user_id", 2),
    ]


def test_counters_times_and_sources_add_up_over_batches(database: Database) -> None:
    store = make_store()
    apply(database, store, saw(C, 5, source=2), saw(C, 3, source=1))
    apply(database, store, saw(C, 9, source=2), saw(f"{A} {C}", 1, source=4))
    row = query(
        database,
        """SELECT events, first_seen - %s, last_seen - %s, source_numbers FROM nodes
            WHERE type = 'anonymous_id'""",
        START,
        START,
    )[0]
    assert (row[0], row[1].days, row[2].days, row[3]) == (3, 1, 9, [1, 2, 4])  # type: ignore[attr-defined]


def test_a_batch_without_news_counts_one_version_and_writes_no_history(
    database: Database,
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 0))
    _, changes = apply(database, store, saw(f"{A} {C}", 0.1), saw(C, 0.2), saw(A, 0.3))
    assert query(database, "SELECT version FROM profiles") == [(2,)]
    assert query(database, "SELECT change FROM profile_changes") == [("created",)]
    assert not changes.moved_nodes
    assert len(changes.nodes) == 2
    assert len(changes.profiles) == 1


def test_a_merge_tells_who_was_absorbed_by_whom_and_both_ids_lead_on(database: Database) -> None:
    store = make_store()
    apply(database, store, saw(C, 0), saw(A, 1))
    older, younger = _find(database, C), _find(database, A)
    _, changes = apply(database, store, saw(f"{A} {C}", 2))
    assert changes.merges == [{"from": younger, "into": older}]
    assert len(changes.moved_nodes) == 1
    assert len(changes.profiles) == 2
    for name in (A, C, f"id:{older}", f"id:{younger}"):
        assert _find(database, name) == older
    assert query(database, "SELECT version, joined_at - %s FROM profiles", START)[0][0] == 2


def test_an_older_sighting_renames_the_profile_and_the_old_id_leads_on(
    database: Database,
) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 5))
    first = _find(database, A)
    apply(database, store, saw(C, 1))
    second = _find(database, A)
    assert first != second
    assert _find(database, f"id:{first}") == second
    assert query(database, "SELECT change FROM profile_changes ORDER BY change_no") == [
        ("created",),
        ("renamed",),
    ]


def test_a_shared_device_answers_its_own_profile_and_its_people_keep_theirs(
    database: Database,
) -> None:
    store = make_store()
    apply(database, store, saw(C, 0), saw(f"{A} {C}", 1))
    before = _find(database, A)
    assert before == _find(database, C)
    apply(database, store, saw(f"{B} {C}", 5))
    assert _find(database, A) == before
    assert _find(database, f"id:{before}") == before
    assert len({_find(database, name) for name in (A, B, C)}) == 3
    assert set(_identifiers(database, A)) == {A}
    assert set(_identifiers(database, C)) == {C}


def test_a_contested_email_shows_who_else_claimed_it(database: Database) -> None:
    apply(database, make_store(), saw(f"{A} email:e@x", 0), saw(f"{B} email:e@x", 1))
    claimant = _find(database, B)
    assert _identifiers(database, A) == {A: (), "email:e@x": (claimant,)}
    assert _identifiers(database, B) == {B: ()}


def test_a_quarantined_identifier_joins_nobody_later_and_ties_no_components(
    database: Database,
) -> None:
    store = make_store()
    for number in range(8):
        apply(database, store, saw(f"user_id:u{number} member_card:1", number))
    assert query(database, "SELECT value FROM nodes WHERE quarantined") == [("1",)]
    assert query(database, "SELECT count(*) FROM profiles") == [(9,)]
    newest = query(
        database,
        "SELECT count(*) FROM nodes WHERE component_id = "
        "(SELECT component_id FROM nodes WHERE value = 'u7')",
    )
    assert newest == [(1,)]
    assert stored_partition(database) == rebuilt_partition(database)


def test_a_full_component_takes_in_no_more_and_newcomers_stay_whole(database: Database) -> None:
    store = make_store(component_cap=10)
    for number in range(20):
        apply(database, store, saw(f"{A} anonymous_id:d{number:02}", number))
        apply(database, store, saw(f"anonymous_id:d{number:02} {D}{number}", number))
    owner = _find(database, A)
    assert _find(database, "anonymous_id:d00") == owner
    assert _find(database, "anonymous_id:d19") == _find(database, f"{D}19") != owner
    sizes = query(database, "SELECT count(*) FROM nodes GROUP BY component_id")
    assert max(size for (size,) in sizes) <= 11  # type: ignore[type-var]
    assert query(database, "SELECT sum(events) FROM nodes") == [(40,)]
    assert query(database, "SELECT count(*) FROM links") == [(40,)]


def test_what_a_rolled_back_batch_learnt_is_not_believed(database: Database) -> None:
    store = make_store()
    with database.engine.connect() as connection:
        tx = driver(connection)
        store.apply(tx, open_batch(tx), [saw(f"{A} {C}", 0)], BatchChanges(), START)
        tx.rollback()
    apply(database, store, saw(f"{A} {C}", 0))
    assert query(database, "SELECT count(*) FROM nodes") == [(2,)]
    assert query(database, "SELECT count(*) FROM links") == [(1,)]


def test_what_a_batch_still_under_way_learnt_waits_for_its_end(database: Database) -> None:
    store = make_store()
    with database.engine.connect() as connection:
        tx = driver(connection)
        store.apply(tx, open_batch(tx), [saw(A, 0)], BatchChanges(), START)
        apply(database, store, saw(B, 0))
        tx.rollback()
    apply(database, store, saw(A, 1))
    assert query(database, "SELECT value FROM nodes ORDER BY 1") == [("a",), ("b",)]


def test_a_node_erased_behind_a_workers_back_is_made_anew(database: Database) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 0))
    apply(database, store, saw(f"{A} {C}", 0))
    clear(database)
    with pytest.raises(psycopg.errors.SerializationFailure):
        apply(database, store, saw(f"{A} {C}", 1))
    apply(database, store, saw(f"{A} {C}", 1))
    assert query(database, "SELECT count(*) FROM profiles") == [(1,)]


def _crowd(seed: int) -> list[Observation]:
    """A crowd in which everybody meets: users, cards, devices that several share."""
    seen = []
    for number in range(60):
        user, card = (number * 7 + seed) % 23, (number * 5 + seed) % 17
        device, mail = (number * 3 + seed) % 19, (number * 11 + seed) % 13
        seen += [
            saw(f"user_id:{user} anonymous_id:{device}", number % 40, message=f"{seed}a{number}"),
            saw(f"member_card:{card} device_id:{device}", number % 37, message=f"{seed}b{number}"),
            saw(f"user_id:{user} email:{mail}@x", number % 31, message=f"{seed}c{number}"),
            saw(f"email:{mail}@x member_card:{card}", number % 29, message=f"{seed}d{number}"),
        ]
    return seen


def test_workers_that_merge_the_same_people_at_once_make_what_one_makes(
    database: Database,
) -> None:
    rules = RULES.model_copy(update={"hot_limit": 100})
    shares = [_crowd(seed) for seed in range(3)]
    for share in shares:
        apply(database, make_store(rules), *share)
    wanted = stored_partition(database)
    clear(database)
    together = threading.Barrier(3)

    def work(share: list[Observation]) -> None:
        store = make_store(rules)
        together.wait()
        for start in range(0, len(share), 20):
            apply_stubbornly(database, store, share[start : start + 20])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, shares))
    assert stored_partition(database) == wanted
    assert rebuilt_partition(database, rules) == wanted
    assert len(wanted.refusals) > 100
    assert query(database, "SELECT sum(events) FROM nodes") == [(3 * 240,)]


def test_a_deadlock_is_raised_and_the_batch_goes_through_when_done_again(
    database: Database,
) -> None:
    store = make_store()
    apply(database, store, saw(A, 0), saw(B, 0))
    numbers = dict(query(database, "SELECT value, node_id FROM nodes"))
    with database.engine.connect() as other:
        tx = driver(other)
        tx.execute("SET deadlock_timeout = '10s'")
        tx.execute("SELECT FROM nodes WHERE node_id = %s FOR UPDATE", (numbers["b"],))
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(apply_stubbornly, database, store, [saw(A, 1), saw(B, 1)])
            _wait_for_a_waiter(database)
            # The worker holds a and waits for b; now wait for a while holding b.
            tx.execute("SELECT FROM nodes WHERE node_id = %s FOR UPDATE", (numbers["a"],))
            tx.rollback()
            assert outcome.result() >= 2
    assert query(database, "SELECT sum(events) FROM nodes") == [(4,)]


def _wait_for_a_waiter(database: Database) -> None:
    while not query(database, "SELECT 1 FROM pg_locks WHERE NOT granted"):
        pass


def test_a_node_that_another_worker_makes_at_the_same_moment_is_taken_over(
    database: Database,
) -> None:
    with database.engine.connect() as other, ThreadPoolExecutor(1) as pool:
        tx = driver(other)
        make_store().apply(tx, open_batch(tx), [saw(f"{A} {C}", 0)], BatchChanges(), START)
        outcome = pool.submit(apply, database, make_store(), saw(f"{A} {D}", 1))
        _wait_for_a_waiter(database)
        tx.commit()
        outcome.result()
    assert set(_identifiers(database, A)) == {A, C, D}
    assert query(database, "SELECT value, events FROM nodes WHERE type = 'user_id'") == [("a", 2)]
    assert stored_partition(database) == rebuilt_partition(database)


def test_the_salt_is_made_once_and_rules_are_kept(database: Database) -> None:
    with database.transaction() as connection:
        tx = driver(connection)
        assert ensure_salt(tx) == ensure_salt(tx)
        assert len(ensure_salt(tx)) == 32
        assert read_rules(tx, "CN") == RULES
        write_rules(tx, RULES.model_copy(update={"version": 2, "hot_limit": 9}))
        assert read_rules(tx, "GB").hot_limit == 9


def test_other_salts_make_other_profile_ids(database: Database) -> None:
    apply(database, make_store(), saw(A, 0))
    first = _find(database, A)
    clear(database)
    apply(database, IdentityStore(RULES, b"another"), saw(A, 0))
    assert _find(database, A) != first
