"""What goes wrong in who is who: each trouble has a named end, and no event is lost on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from cdp.identity.by_hand_store import Hand
from cdp.identity.change_rules_store import change_rules
from cdp.identity.rules import default_rules
from cdp.model import Identifier, Observation
from cdp.pipeline import STEPS
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, driver
from tests.integration.test_identity_by_hand import groups, rebuilt_is_stored
from tests.support.identity_lab import ALL, Killed, Lab
from tests.support.identity_rows import (
    apply,
    apply_stubbornly,
    make_store,
    query,
    stored_partition,
)
from tests.support.identity_wire import IdentityWire, run_identity_wire
from tests.support.identity_world import saw
from tests.support.ingest_server import wait_until
from tests.support.postgres import PostgresServer
from tests.support.wire import RECEIVED_AT, identify, track

A, B, C, C2, D = "user_id:a", "user_id:b", "anonymous_id:c", "anonymous_id:c2", "device_id:d"


@pytest.fixture(scope="module")
def wire(postgres_server: PostgresServer) -> Iterator[IdentityWire]:
    with run_identity_wire(postgres_server) as wire:
        yield wire


@pytest.fixture
def lab(postgres_server: PostgresServer) -> Iterator[Lab]:
    with postgres_server.fresh_url() as url:
        lab = Lab(url, default_rules("CN").model_copy(update={"version": 2}), workers=2)
        yield lab
        lab.close()


def _count_events(database: Database) -> int:
    return int(query(database, "SELECT sum(events)::bigint FROM nodes")[0][0])  # type: ignore[call-overload]


# ── Aliases ─────────────────────────────────────────────────────────────────────────────────────


def test_aliases_in_a_circle_are_one_person(database: Database) -> None:
    store = make_store()
    ring = [f"anonymous_id:r{n}" for n in range(5)]
    for number, name in enumerate(ring):
        apply(database, store, saw(f"{name} {ring[number - 1]}", number))
    assert groups(database) == {frozenset(ring)}
    assert rebuilt_is_stored(database)


def test_an_alias_to_oneself_is_an_event_and_no_link(lab: Lab) -> None:
    lab.post_events([track("Seen", "1", userId="a")])
    alias = {"type": "alias", "userId": "a", "timestamp": format_time(RECEIVED_AT)}
    lab.post_events([{**alias, "messageId": "2", "previousId": "a"}])
    lab.settle()
    assert groups(lab.database) == {frozenset({A})}
    assert lab.ask("SELECT count(*) FROM links") == [(0,)]
    assert _count_events(lab.database) == 2


def test_a_to_b_and_b_to_a_at_one_moment_on_two_workers_are_one_person(
    database: Database,
) -> None:
    together = threading.Barrier(2)

    def tell(seen: Observation) -> None:
        store = make_store()
        together.wait()
        apply_stubbornly(database, store, [seen])

    for round_ in range(10):
        one, other = f"anonymous_id:p{round_}", f"anonymous_id:q{round_}"
        there = saw(f"{one} {other}", 1, message=f"1-{round_}")
        back = saw(f"{other} {one}", 1, message=f"2-{round_}")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(tell, (there, back)))
    assert len(groups(database)) == 10
    assert _count_events(database) == 20
    assert query(database, "SELECT DISTINCT left(first_message_id, 2) FROM links") == [("1-",)]
    assert rebuilt_is_stored(database)


# ── Too much of it ──────────────────────────────────────────────────────────────────────────────


def test_thousands_of_events_on_one_device_are_one_link_and_two_identifiers(
    database: Database,
) -> None:
    store = make_store()
    for start in range(0, 5000, 1000):
        seen = [saw(f"{A} {C}", n / 1000, message=f"m{n}") for n in range(start, start + 1000)]
        apply(database, store, *seen)
    assert _count_events(database) == 5000
    assert query(database, "SELECT count(*) FROM links") == [(1,)]
    assert groups(database) == {frozenset({A, C})}
    # One version for each batch that touched the person, whatever it held.
    assert query(database, "SELECT version FROM profiles") == [(5,)]
    assert query(database, "SELECT change FROM profile_changes") == [("created",)]


def test_thousands_of_users_on_one_till_stay_themselves_and_the_till_is_nobodys(
    database: Database,
) -> None:
    store = make_store()
    for start in range(0, 2000, 500):
        seen = [saw(f"user_id:{n} {D}", n / 100) for n in range(start, start + 500)]
        apply(database, store, *seen)
    assert len(groups(database)) == 2001
    assert _count_events(database) == 2000
    assert query(database, "SELECT value FROM nodes WHERE quarantined") == [("d",)]
    # Nobody is slowed down by the others: each is a component of their own.
    most = "SELECT count(*) FROM nodes GROUP BY component_id ORDER BY 1 DESC LIMIT 1 OFFSET 1"
    assert query(database, most) == [(1,)]


POISON = Identifier("wechat_unionid", "poison")


def poison(database: Database, people: int, *, of: str, cap: int = 5_000) -> None:
    """Let people be, each with a browser and something else; then an import joins all browsers."""
    store = make_store(component_cap=cap)
    for claim in (f"{of}:n{{0}} anonymous_id:p{{0}}", f"{POISON} anonymous_id:p{{0}}"):
        for start in range(0, people, 100):
            numbers = range(start, min(start + 100, people))
            apply(database, store, *(saw(claim.format(n), n / 1000) for n in numbers))


@pytest.mark.parametrize("of", ["crm_id", "email"])
def test_a_poisoned_import_glues_nobody_who_has_a_name_or_contact_of_their_own(
    database: Database, of: str
) -> None:
    poison(database, 300, of=of)
    after = groups(database)
    assert sum(len(group) for group in after) == 601
    for group in after:
        assert sum(name.startswith(of) for name in group) <= 1
    assert _count_events(database) == 600
    assert rebuilt_is_stored(database)


def withdraw(database: Database) -> str:
    """Block what the import brought; return the decision's id."""
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "a bad import", RECEIVED_AT)
        return hand.block(*POISON).decision_id


def test_withdrawing_what_glued_hundreds_gives_each_their_own_back(database: Database) -> None:
    poison(database, 300, of="wechat_openid")
    glued = stored_partition(database)
    assert len(groups(database)) == 1
    decision_id = withdraw(database)
    pairs = {frozenset({f"wechat_openid:n{n}", f"anonymous_id:p{n}"}) for n in range(300)}
    assert groups(database) == pairs | {frozenset({str(POISON)})}
    assert _count_events(database) == 600
    assert rebuilt_is_stored(database)
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "it was right", RECEIVED_AT)
        hand.undo(decision_id)
    assert stored_partition(database) == glued


def test_withdrawing_what_glued_as_many_as_may_be_leaves_nothing_of_it(
    database: Database,
) -> None:
    poison(database, 300, of="wechat_openid", cap=250)
    assert 100 < len(groups(database)) < 300
    withdraw(database)
    assert len(groups(database)) == 301
    reasons = "SELECT reason, count(*) FROM refusals GROUP BY 1"
    assert query(database, reasons) == [("blocked", 300)]
    assert rebuilt_is_stored(database)


def test_blocking_what_was_hot_already_says_so_wherever_it_was_refused(
    database: Database,
) -> None:
    store = make_store()
    for number in range(8):
        apply(database, store, saw(f"user_id:u{number} member_card:till", number))
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "the till's card", RECEIVED_AT)
        decision_id = hand.block("member_card", "till").decision_id
    assert query(database, "SELECT DISTINCT reason FROM refusals") == [("blocked",)]
    assert rebuilt_is_stored(database)
    with database.transaction() as connection:
        hand = Hand(driver(connection), "CN", "token:test", "it was right", RECEIVED_AT)
        hand.undo(decision_id)
    assert query(database, "SELECT DISTINCT reason FROM refusals") == [("hot_identifier",)]
    assert rebuilt_is_stored(database)


# ── Broken off ──────────────────────────────────────────────────────────────────────────────────


def test_a_rule_change_killed_within_a_piece_does_that_piece_again(lab: Lab) -> None:
    for number in range(6):
        union = [{"type": "wechat_unionid", "id": f"{n}{number}"} for n in "uv"]
        lab.post_events(
            identify(
                f"m{number}{one['id']}", traits={"email": f"e{number}@x.cn"},
                context={"externalIds": [one]},
            )
            for one in union
        )  # fmt: skip
    lab.settle()
    assert len(groups(lab.database)) == 6
    document = lab.read_rules().document()
    document["types"]["wechat_unionid"]["unique"] = True
    with lab.database.transaction() as connection:
        change_rules(driver(connection), document, "CN", "token:test")
    lab.apply_rules()
    half_way = stored_partition(lab.database)
    assert len(groups(lab.database)) < 12
    for _ in range(3):
        with pytest.raises(Killed):
            lab.apply_rules(dies=True)
    assert stored_partition(lab.database) == half_way
    while lab.apply_rules():
        pass
    assert len(groups(lab.database)) == 12
    assert rebuilt_is_stored(lab.database)


def test_a_worker_killed_after_any_step_of_a_merge_leaves_it_to_the_next(lab: Lab) -> None:
    lab.post_events([track("Seen", "1", anonymousId="c"), track("Seen", "2", userId="a")])
    lab.settle()
    lab.post_events([identify("3", anonymousId="c", userId="a")])
    before = stored_partition(lab.database)
    for number in range(len(STEPS)):
        lab.work(0, ALL, dies_after=number)
        assert stored_partition(lab.database) == before
        assert _count_events(lab.database) == 2
    lab.settle()
    assert groups(lab.database) == {frozenset({A, C})}
    assert _count_events(lab.database) == 3


# ── Clocks ──────────────────────────────────────────────────────────────────────────────────────


def test_a_link_of_a_clock_in_the_future_counts_from_its_receipt(lab: Lab) -> None:
    late = RECEIVED_AT + timedelta(days=30_000)
    lab.post_events(
        [track("Seen", "1", at=late, userId="a", context={"traits": {"email": "e@x.cn"}})]
    )
    lab.post_events([track("Seen", "2", userId="b", context={"traits": {"email": "e@x.cn"}})])
    lab.settle()
    assert lab.ask("SELECT count(*) FROM nodes WHERE first_seen > %s", RECEIVED_AT) == [(0,)]
    # At one moment the lesser message id counts first.
    assert frozenset({A, "email:e@x.cn"}) in groups(lab.database)


def test_a_browser_whose_clock_stands_in_1970_wins_nobodys_identifier(lab: Lab) -> None:
    contact = {"context": {"traits": {"email": "e@x.cn"}}}
    lab.post_events([track("Seen", "2", at=RECEIVED_AT - timedelta(days=9), userId="b", **contact)])
    epoch = RECEIVED_AT.replace(year=1970)
    lab.post_events([track("Seen", "1", at=epoch, userId="a", **contact)], kind="web")
    lab.settle()
    assert groups(lab.database) == {frozenset({B, "email:e@x.cn"}), frozenset({A})}
    assert _count_events(lab.database) == 2


# ── Odd values, through the door ────────────────────────────────────────────────────────────────


def _post(wire: IdentityWire, message: str, **members: object) -> None:
    wire.post([{"type": "track", "event": "Seen", "messageId": message, **members}])
    wire.wait()


def test_an_identifier_of_ten_kilobytes_names_nobody_and_the_event_stays(
    wire: IdentityWire,
) -> None:
    huge = "x" * 10_240
    card = {"id": huge, "type": "member_card", "collection": "users", "encoding": "none"}
    context = {"traits": {"email": f"{huge}@x.cn"}, "externalIds": [card]}
    _post(wire, "long-1", anonymousId="long", context=context)
    person = wire.read("anonymous_id:long")
    assert [one["type"] for one in person["identifiers"]] == ["anonymous_id"]
    assert person["events"] == 1
    with pytest.raises(AssertionError, match="invalid_user_id"):
        _post(wire, "long-2", userId=huge, anonymousId="long")
    kept = "SELECT code, octet_length(raw) > 10240 FROM rejected WHERE message_id = 'long-2'"
    wait_until(lambda: query(wire.stack.database, kept) == [("invalid_user_id", True)])


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("ann@x.cn", "аnn@x.cn", False),  # the second begins with a Cyrillic letter
        ("josé@x.cn", "josé@x.cn", True),  # composed and decomposed
        ("bob@x.cn", "ｂｏｂ＠ｘ．ｃｎ", True),  # typed on a Chinese keyboard
        ("eve@x.cn", "eve\u200b@x.cn", True),  # with a space that nobody sees
    ],
)
def test_an_email_that_only_looks_alike_is_somebody_elses(
    wire: IdentityWire, one: str, other: str, is_same: bool
) -> None:
    names = [f"{one}-{number}" for number in range(2)]
    for name, email in zip(names, (one, other), strict=True):
        _post(wire, name, anonymousId=name, context={"traits": {"email": email}})
    found = wire.lookup([Identifier("anonymous_id", name) for name in names])
    assert (len(set(found.values())) == 1) is is_same


def test_a_user_id_that_looks_alike_is_never_the_same_user(wire: IdentityWire) -> None:
    spellings = ["Kilo", "kilo", "Кilo", "Ｋilo", "\u212ailo"]
    for number, name in enumerate(spellings):
        _post(wire, f"kilo-{number}", userId=name)
    found = wire.lookup([Identifier("user_id", name) for name in spellings])
    assert len(set(found.values())) == len(spellings)


def test_a_number_is_one_identifier_as_a_number_and_as_text_and_a_fraction_is_none(
    wire: IdentityWire,
) -> None:
    _post(wire, "n-1", userId=778899)
    _post(wire, "n-2", userId="778899")
    _post(wire, "n-3", userId=" 778899 ")
    assert wire.read("user_id:778899")["events"] == 3
    _post(wire, "n-4", anonymousId="n4", context={"traits": {"phone": 13812345678}})
    _post(wire, "n-5", anonymousId="n5", context={"traits": {"phone": "+86 138 1234 5678"}})
    assert wire.read("anonymous_id:n4")["id"] == wire.read("anonymous_id:n5")["id"]
    with pytest.raises(AssertionError, match="invalid_user_id"):
        _post(wire, "n-6", userId=1.5)
