"""What people decide by hand, and what the replay makes of it."""

from __future__ import annotations

from cdp.identity.rules import Rules
from cdp.model import Identifier
from tests.support.identity_world import RULES, World, people, saw

A, B, C, C2 = "user_id:a", "user_id:b", "anonymous_id:c", "anonymous_id:c2"
EMAIL, CRM, UNION = "email:ann@x", "crm_id:1", "wechat_unionid:u"


def _blocking(*names: str) -> Rules:
    return RULES.with_blocks(frozenset(Identifier(*name.split(":", 1)) for name in names))


def test_a_merge_makes_the_two_people_as_they_are_then_one() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"{UNION} {C2}", 1)]
    assert World(*seen).people() == people(f"{A} {C}", f"{UNION} {C2}")
    merged = World(*seen, decided=[("merge", f"{C} {C2}", 5)])
    assert merged.people() == people(f"{A} {C} {UNION} {C2}")
    assert [join.rule for join in merged.resolution.joins][-1] == "by_hand"


def test_a_merge_of_two_values_of_a_unique_type_is_refused_unless_it_is_an_exception() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"{B} {C2}", 1)]
    refused = World(*seen, decided=[("merge", f"{C} {C2}", 5)])
    assert refused.people() == people(f"{A} {C}", f"{B} {C2}")
    assert refused.refused() == {(C, C2, "unique_conflict")}
    allowed = World(*seen, decided=[("exception", f"{C} {C2}", 5)])
    assert allowed.people() == people(f"{A} {C} {B} {C2}")


def test_an_exception_lets_in_no_third_value() -> None:
    world = World(
        saw(A, 0),
        saw(B, 0),
        saw("user_id:third", 0),
        saw(f"user_id:third {EMAIL}", 1),
        saw(f"{A} {EMAIL}", 9),
        decided=[("exception", f"{A} {B}", 5)],
    )
    assert world.people() == people(f"{A} {B}", f"user_id:third {EMAIL}")


def test_a_merge_is_stopped_neither_by_two_contacts_nor_by_a_limit() -> None:
    rules = RULES.model_copy(
        update={
            "types": {
                **RULES.types,
                "email": RULES.rule_of("email").model_copy(update={"limit": 1}),
            }
        }
    )
    seen = [saw(f"email:one@x {C}", 0), saw("email:two@x", 1)]
    world = World(*seen, rules=rules, decided=[("merge", f"{C} email:two@x", 5)])
    assert world.people() == people(f"email:one@x {C} email:two@x")


def test_people_merged_by_hand_share_their_device_no_more() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"{B} {C}", 1)]
    assert World(*seen).owner(C) == f"shared({C})"
    world = World(*seen, decided=[("exception", f"{A} {B}", 5)])
    assert world.people() == people(f"{A} {B} {C}")


def test_a_detached_identifier_stands_alone_and_the_others_stay_together() -> None:
    seen = [saw(f"{A} {EMAIL} {C}", 0)]
    for one, rest in ((A, [EMAIL, C]), (EMAIL, [A, C]), (C, [A, EMAIL])):
        world = World(*seen, decided=[("detached", " ".join([one, *rest]), 5)])
        assert world.people() == people(one, " ".join(rest))


def test_later_links_of_a_detached_pair_stay_withheld() -> None:
    world = World(
        saw(f"{A} {EMAIL}", 0),
        saw(f"{A} {EMAIL} {C}", 9),
        saw(f"{EMAIL} {A}", 700),
        decided=[("detached", f"{EMAIL} {A}", 5)],
    )
    assert world.people() == people(f"{A} {C}", EMAIL)
    assert {row[2] for row in world.refused()} == {"parted_by_hand"}


def test_a_detached_contact_is_free_for_somebody_else() -> None:
    world = World(
        saw(f"{A} {EMAIL}", 0),
        saw(f"{B} {EMAIL}", 6),
        decided=[("detached", f"{EMAIL} {A}", 5)],
    )
    assert world.people() == people(A, f"{B} {EMAIL}")


def test_parted_people_each_keep_what_is_tied_to_them_alone() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"{UNION} {C2}", 1), saw(f"{A} {UNION}", 2)]
    assert len(World(*seen).people()) == 1
    world = World(*seen, decided=[("parted", f"{A} {UNION}", 5)])
    assert world.people() == people(f"{A} {C}", f"{UNION} {C2}")


def test_a_device_of_two_people_parted_by_hand_is_shared() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"{UNION} {C}", 3)]
    world = World(*seen, decided=[("parted", f"{A} {UNION}", 5)])
    assert world.owner(C, 1) == A
    assert world.owner(C) == f"shared({C})"


def test_of_a_merge_and_a_parting_the_later_decision_holds() -> None:
    seen = [saw(A, 0), saw(CRM, 0)]
    merged, parted = ("merge", f"{A} {CRM}"), ("parted", f"{A} {CRM}")
    then_parted = World(*seen, decided=[(*merged, 5), (*parted, 6)])  # type: ignore[list-item]
    then_merged = World(*seen, decided=[(*parted, 5), (*merged, 6)])  # type: ignore[list-item]
    assert then_parted.people() == people(A, CRM)
    assert then_merged.people() == people(f"{A} {CRM}")


def test_people_glued_by_a_blocked_identifier_come_apart() -> None:
    phone = "phone:+862112345678"
    seen = [saw(f"anonymous_id:c{n} {phone}", n) for n in range(4)]
    assert len(World(*seen).people()) == 1
    world = World(*seen, rules=_blocking(phone))
    assert world.people() == people(phone, *(f"anonymous_id:c{n}" for n in range(4)))
    assert {row[2] for row in world.refused()} == {"blocked"}
    assert world.resolution.hot == frozenset()


def test_what_was_seen_together_beside_a_blocked_identifier_stays_together() -> None:
    world = World(saw(f"{A} {EMAIL} {C}", 0), rules=_blocking(A))
    assert world.people() == people(A, f"{EMAIL} {C}")


def test_values_that_the_rules_block_hold_nobody_together_either() -> None:
    world = World(saw(f"{A} {EMAIL}", 0), saw("user_id:null email:bob@x", 0))
    assert world.people() == people(f"{A} {EMAIL}", "user_id:null", "email:bob@x")
