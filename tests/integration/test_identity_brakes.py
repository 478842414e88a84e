"""What must not run away: identifiers that tie thousands together, components without bound."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy.exc import OperationalError

from cdp.identity.check_store import check_identity
from cdp.identity.explain_store import Explanation, explain
from cdp.identity.find_store import find_named_node, find_profile
from cdp.identity.identity_metrics import IdentityCollector
from cdp.identity.replay_tally import ReplayTally, tally
from cdp.identity.rules_store import read_rules
from cdp.identity.tally_store import flush
from cdp.model import Identifier
from cdp.storage.database import Database, driver
from tests.integration.test_identity_by_hand import groups, rebuilt_is_stored
from tests.support.identity_rows import apply, make_store, query, rebuilt_partition
from tests.support.identity_world import saw

SHOP = "email:shop@x.cn"


def _sizes(database: Database) -> set[object]:
    rows = query(database, "SELECT DISTINCT count(*) FROM nodes GROUP BY component_id")
    return {row[0] for row in rows}


def test_people_whom_a_storm_tied_together_come_apart_and_go_on_with_their_lives(
    database: Database,
) -> None:
    store = make_store(component_cap=50)
    apply(database, store, *(saw(f"user_id:u{n} anonymous_id:c{n}", 0) for n in range(50)))
    apply(database, store, *(saw(f"user_id:u{n} {SHOP}", 1) for n in range(50)))
    assert _sizes(database) == {1, 2}
    refused = query(database, "SELECT reason, count(*) FROM refusals GROUP BY reason")
    assert refused == [("hot_identifier", 50)]
    apply(database, store, saw("user_id:u7 email:ann@x.cn", 2), saw("user_id:u8 phone:+8612", 2))
    assert frozenset({"user_id:u7", "anonymous_id:c7", "email:ann@x.cn"}) in groups(database)
    assert rebuilt_is_stored(database)
    with database.snapshot() as connection:
        tx = driver(connection)
        assert not any(one.wrong for one in check_identity(tx, read_rules(tx, "CN")))


def test_a_device_that_was_shared_in_a_storm_keeps_its_own_profile(database: Database) -> None:
    store = make_store()
    apply(database, store, saw("user_id:u0 device_id:d", 0), saw("user_id:u1 device_id:d", 1))
    apply(database, store, *(saw(f"user_id:u{n} {SHOP}", 2) for n in range(9)))
    assert _sizes(database) == {1, 4}
    assert rebuilt_is_stored(database)
    apply(database, store, saw("user_id:u2 device_id:d", 3), saw(f"user_id:u2 {SHOP}", 4))
    assert rebuilt_is_stored(database)


def test_what_a_hot_identifier_tied_is_tied_by_whatever_else_says_so(database: Database) -> None:
    store = make_store()
    people = [saw(f"anonymous_id:c{n} email:e{n}@x", n) for n in range(8)]
    apply(database, store, *people, saw("anonymous_id:c0 anonymous_id:c1", 8))
    tie = "phone:+862112345678"
    apply(database, store, *(saw(f"anonymous_id:c{n} email:e{n}@x {tie}", 9) for n in range(8)))
    assert _sizes(database) == {1, 2, 5}
    apply(database, store, saw("anonymous_id:c1 anonymous_id:c2", 10))
    assert _sizes(database) == {1, 2, 7}
    assert rebuilt_is_stored(database)


def test_a_newcomer_whom_a_full_component_refuses_leaves_its_refusals_alone(
    database: Database,
) -> None:
    store = make_store(component_cap=5)
    apply(database, store, saw("user_id:a anonymous_id:c", 0), saw("user_id:b anonymous_id:c", 1))
    apply(database, store, saw("user_id:a anonymous_id:d", 2))
    apply(database, store, saw("user_id:a email:new@x", 3))
    reasons = [row[0] for row in query(database, "SELECT reason FROM refusals ORDER BY reason")]
    assert reasons == ["limit", "unique_conflict"]
    again = rebuilt_partition(database)
    assert len(again.refusals) == 1


@pytest.mark.parametrize("most", [1, 3])
def test_a_storm_that_comes_in_many_batches_ends_as_one_in_a_single_batch(
    database: Database, most: int
) -> None:
    store = make_store()
    seen = [saw(f"user_id:u{n} {SHOP}", n, message=f"m{n}") for n in range(12)]
    for start in range(0, len(seen), most):
        apply(database, store, *seen[start : start + most])
    assert _sizes(database) == {1}
    assert len(groups(database)) == 13
    assert rebuilt_is_stored(database)


def test_metrics_tell_of_links_sizes_times_hot_identifiers_and_the_rules(
    database: Database,
) -> None:
    flush(database, tally)
    _forget_tallies(database)
    store = make_store()
    apply(database, store, saw("user_id:a anonymous_id:c", 0), saw("user_id:b anonymous_id:c", 1))
    apply(database, store, *(saw(f"user_id:u{n} {SHOP}", 2) for n in range(9)))
    apply(database, store, saw("user_id:a anonymous_id:c", 0))
    shown = _scrape(database)
    assert 'cdp_identity_links_total{outcome="accepted",reason=""} 1.0' in shown
    assert 'cdp_identity_links_total{outcome="refused",reason="unique_conflict"} 1.0' in shown
    assert 'cdp_identity_links_total{outcome="refused",reason="hot_identifier"} 9.0' in shown
    assert 'cdp_identity_component_size_bucket{le="5.0"} 1.0' in shown
    assert "cdp_identity_component_size_count 2.0" in shown
    assert "cdp_identity_recompute_seconds_count 2.0" in shown
    assert "cdp_identity_hot_identifiers 1.0" in shown
    assert "cdp_identity_rules_version 1.0" in shown
    assert _scrape(database) == shown


def test_what_could_not_be_added_up_is_counted_the_next_time(database: Database) -> None:
    flush(database, tally)
    _forget_tallies(database)
    own = ReplayTally()
    own.count(accepted=2, refused={}, sizes={3: 1}, seconds=0.1)
    with pytest.raises(OperationalError):
        flush(Database("postgresql://nobody@127.0.0.1:1/none"), own)
    own.count(accepted=1, refused={"limit": 1}, sizes={3: 1}, seconds=20)
    flush(database, own)
    shown = _scrape(database)
    assert 'cdp_identity_links_total{outcome="accepted",reason=""} 3.0' in shown
    assert "cdp_identity_component_size_sum 6.0" in shown
    assert 'cdp_identity_recompute_seconds_bucket{le="10.0"} 1.0' in shown
    assert 'cdp_identity_recompute_seconds_bucket{le="+Inf"} 2.0' in shown


def _forget_tallies(database: Database) -> None:
    with database.transaction() as connection:
        driver(connection).execute("DELETE FROM identity_tallies")


def _scrape(database: Database) -> str:
    registry = CollectorRegistry()
    registry.register(IdentityCollector(database))
    return generate_latest(registry).decode()


def test_two_people_whom_a_hot_identifier_would_tie_are_told_what_withheld_them(
    database: Database,
) -> None:
    apply(database, make_store(), *(saw(f"user_id:u{n} {SHOP}", n) for n in range(9)))
    told = _explain(database, Identifier("user_id", "u1"), Identifier("user_id", "u2"))
    assert not told.same
    assert [(step.strong.value, step.weak.value, step.rule) for step in told.withheld] == [
        ("u1", "shop@x.cn", "hot_identifier"),
        ("u2", "shop@x.cn", "hot_identifier"),
    ]
    assert told.withheld[0].evidence.message_id == f"user_id:u1 {SHOP}@1"


def _explain(database: Database, one: Identifier, other: Identifier) -> Explanation:
    with database.snapshot() as connection:
        tx = driver(connection)
        nodes = [find_named_node(tx, name) or 0 for name in (one, other)]
        found = [find_profile(tx, name) for name in (one, other)]
        assert found[0] is not None
        assert found[1] is not None
        ours, theirs = ([n, *who.node_ids] for n, who in zip(nodes, found, strict=True) if who)
        same = found[0].profile_no == found[1].profile_no
        return explain(tx, read_rules(tx, "CN"), ours, theirs, same=same)
