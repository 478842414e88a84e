"""Hashed contacts and scoped names: two spellings of one identifier, whichever comes first."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from cdp.identity.by_hand_store import Hand
from cdp.identity.change_rules_store import change_rules
from cdp.identity.explain_store import explain
from cdp.identity.fill_forms_store import fill_next
from cdp.identity.find_store import find_named_node, find_profile
from cdp.identity.rules_store import read_rules
from cdp.identity.twins import digest
from cdp.model import Identifier, Observation
from cdp.storage.database import Database, driver
from tests.integration.test_identity_by_hand import groups, rebuilt_is_stored
from tests.integration.test_identity_rules import apply_all
from tests.support.identity_rows import (
    apply,
    apply_stubbornly,
    clear,
    make_store,
    query,
    stored_partition,
)
from tests.support.identity_world import RULES, START, saw

H = f"email_sha256:{digest('ann@x.cn')}"
P = f"phone_sha256:{digest('+8613800138000')}"
STORY = (
    saw("user_id:1 email:ann@x.cn", 1),
    saw(f"anonymous_id:a {H}", 2),
    saw("crm_id:k phone:+8613800138000", 3),
    saw(f"{P} {H}", 4),
)


def tell(database: Database, *batches: list[Observation]) -> None:
    """Commit batches, then enter what was there before the first hash, a node at a time."""
    store = make_store()
    for batch in batches:
        apply(database, store, *batch)
    fill(database)


def fill(database: Database, *, max_nodes: int = 1) -> None:
    more = True
    while more:
        with database.transaction() as connection:
            more = fill_next(driver(connection), "CN", START, max_nodes=max_nodes)


WHOLE = frozenset(
    {"user_id:1", "email:ann@x.cn", H, "anonymous_id:a", P, "crm_id:k", "phone:+8613800138000"}
)


def start_anew(database: Database) -> None:
    clear(database)
    with database.transaction() as connection:
        driver(connection).execute("DELETE FROM workspace WHERE name = 'identifier_forms'")


def test_a_hash_joins_its_clear_twin_whichever_comes_first(database: Database) -> None:
    for order in itertools.permutations(range(4)):
        start_anew(database)
        tell(database, *([STORY[n]] for n in order))
        assert groups(database) == {WHOLE}, order
        assert rebuilt_is_stored(database), order


def test_twins_may_come_in_one_batch_or_in_two(database: Database) -> None:
    for cut in range(5):
        start_anew(database)
        tell(database, list(STORY[:cut]), list(STORY[cut:]))
        assert groups(database) == {WHOLE}, cut
        assert rebuilt_is_stored(database), cut


def test_the_same_once_more_changes_nothing(database: Database) -> None:
    tell(database, list(STORY))
    before = stored_partition(database), query(database, "SELECT count(*) FROM profile_changes")
    tell(database, list(STORY), [STORY[1]])
    assert before == (
        stored_partition(database),
        query(database, "SELECT count(*) FROM profile_changes"),
    )


def test_nobody_is_told_a_hash_that_nobody_sent(database: Database) -> None:
    tell(database, [saw("user_id:1 email:ann@x.cn", 1)], [saw("email_sha256:" + "0f" * 32, 2)])
    assert groups(database) == {
        frozenset({"user_id:1", "email:ann@x.cn"}),
        frozenset({"email_sha256:" + "0f" * 32}),
    }
    with database.transaction() as connection:
        assert find_profile(driver(connection), Identifier(*H.split(":"))) is None


def test_no_forms_are_kept_before_the_first_hash(database: Database) -> None:
    tell(database, [saw("user_id:1 email:ann@x.cn", 1)], [saw("phone:+8613800138000", 2)])
    assert query(database, "SELECT count(*) FROM identifier_forms") == [(0,)]
    tell(database, [saw(H, 3)], [saw("email:bob@x.cn", 4)])
    assert query(database, "SELECT count(*) FROM identifier_forms") == [(3,)]


def test_two_workers_that_make_the_two_spellings_at_once_miss_neither(database: Database) -> None:
    tell(database, [saw("email_sha256:" + "0f" * 32, 0)])
    made = threading.Barrier(2)

    def work(seen: Observation) -> None:
        store = make_store()
        made.wait()
        apply_stubbornly(database, store, [seen])

    for n in range(8):
        clear = f"ann{n}@x.cn"
        hashed = f"email_sha256:{digest(clear)}"
        seen = saw(f"user_id:u{n} email:{clear}", 1), saw(f"anonymous_id:a{n} {hashed}", 2)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, seen))
        assert frozenset(
            {f"user_id:u{n}", f"email:{clear}", f"anonymous_id:a{n}", hashed}
        ) in groups(database)
    assert rebuilt_is_stored(database)


def test_the_path_between_two_who_share_a_hash_names_the_twins(database: Database) -> None:
    tell(database, list(STORY))
    with database.transaction() as connection:
        tx = driver(connection)
        nodes = [find_named_node(tx, Identifier(*n.split(":"))) for n in ("user_id:1", "crm_id:k")]
        start, end = [[n] for n in nodes if n is not None]
        told = explain(tx, RULES, start, end, same=True)
    assert [(str(step.strong), str(step.weak), step.rule) for step in told.path] == [
        ("user_id:1", "email:ann@x.cn", "seen_together"),
        ("email:ann@x.cn", H, "hashed_twin"),
        (H, P, "seen_together"),
        (P, "phone:+8613800138000", "hashed_twin"),
        ("phone:+8613800138000", "crm_id:k", "seen_together"),
    ]


def test_a_clear_address_and_another_ones_hash_are_two_people_on_one_device(
    database: Database,
) -> None:
    tell(
        database, [saw("user_id:1 email:bob@x.cn anonymous_id:c", 1), saw(f"{H} anonymous_id:c", 2)]
    )
    assert frozenset({H}) in groups(database)
    assert rebuilt_is_stored(database)


def test_a_clear_twin_that_comes_late_parts_what_was_joined_in_its_absence(
    database: Database,
) -> None:
    early = [saw("user_id:1 anonymous_id:c", 1), saw(f"{H} anonymous_id:c", 3)]
    tell(database, early)
    assert groups(database) == {frozenset({"user_id:1", "anonymous_id:c", H})}
    tell(database, [saw("user_id:2 email:ann@x.cn", 2)])
    assert frozenset({"user_id:2", "email:ann@x.cn", H}) in groups(database)
    assert rebuilt_is_stored(database)


def test_taking_a_hash_out_of_a_person_takes_its_twin_and_undoing_brings_both_back(
    database: Database,
) -> None:
    tell(database, list(STORY[:2]))
    before = groups(database)
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "her mother's", START + timedelta(9))
        parted = hand.unmerge([Identifier(*H.split(":"))])
    assert frozenset({"email:ann@x.cn", H}) in groups(database)
    assert rebuilt_is_stored(database)
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "was right", START + timedelta(10))
        hand.undo(parted.decision_id)
    assert groups(database) == before
    assert rebuilt_is_stored(database)


def test_a_contact_that_ties_many_people_together_is_hot_in_both_spellings(
    database: Database,
) -> None:
    tell(database, *([saw(f"user_id:u{n} email:ann@x.cn", n)] for n in range(4)))
    tell(database, *([saw(f"user_id:u{n} {H}", n)] for n in range(4, 8)))
    hot = {("email",), ("email_sha256",)}
    assert set(query(database, "SELECT type FROM nodes WHERE quarantined")) == hot
    assert rebuilt_is_stored(database)
    tell(database, [saw(f"user_id:u9 {H}", 9)], [saw("user_id:u10 email:ann@x.cn", 10)])
    assert rebuilt_is_stored(database)
    for limit, quarantined in ((20, set()), (5, hot)):
        with database.transaction() as connection:
            tx = driver(connection)
            document = read_rules(tx, "CN").document()
            change_rules(tx, {**document, "hot_limit": limit}, "CN", "token:test")
        apply_all(database)
        found = query(database, "SELECT type FROM nodes WHERE quarantined")
        assert set(found) == quarantined
        assert rebuilt_is_stored(database)


def test_the_oldest_of_twins_names_the_person(database: Database) -> None:
    tell(database, [saw(H, 1)])
    first = query(database, "SELECT profile_id FROM profiles")
    tell(database, [saw("email:ann@x.cn", 2)])
    assert query(database, "SELECT profile_id FROM profiles") == first
    tell(database, [saw("email:ann@x.cn", 0)])
    assert query(database, "SELECT profile_id FROM profiles") != first
    assert rebuilt_is_stored(database)


OPENID = "wechat_openid:o6"


def test_an_openid_without_an_app_is_that_of_the_only_app(database: Database) -> None:
    story = (
        saw(f"user_id:1 {OPENID}", 1),
        saw("email:ann@x.cn wechat_openid:wx1::o6", 2),
        saw("phone:+8613800138000 wechat_openid:wx1::o7", 3),
    )
    for order in itertools.permutations(range(3)):
        start_anew(database)
        tell(database, *([story[n]] for n in order))
        assert groups(database) == {
            frozenset({"user_id:1", OPENID, "email:ann@x.cn", "wechat_openid:wx1::o6"}),
            frozenset({"phone:+8613800138000", "wechat_openid:wx1::o7"}),
        }, order
        assert rebuilt_is_stored(database), order
    with database.transaction() as connection:
        found = find_named_node(driver(connection), Identifier("wechat_openid", "o7"))
    assert found is not None


def test_an_openid_without_an_app_is_neither_of_two_apps(database: Database) -> None:
    story = (
        saw(f"user_id:1 {OPENID}", 1),
        saw("email:ann@x.cn wechat_openid:wx1::o6", 2),
        saw("phone:+8613800138000 wechat_openid:wx2::o6", 3),
    )
    for order in itertools.permutations(range(3)):
        start_anew(database)
        tell(database, *([story[n]] for n in order))
        assert groups(database) == {
            frozenset({"user_id:1", OPENID}),
            frozenset({"email:ann@x.cn", "wechat_openid:wx1::o6"}),
            frozenset({"phone:+8613800138000", "wechat_openid:wx2::o6"}),
        }, order
        assert rebuilt_is_stored(database), order
