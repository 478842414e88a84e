"""The tricky lives of identifiers, one test each, and how they end."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from cdp.model import Observation
from tests.support.identity_world import RULES, World, people, saw

A, B = "user_id:a", "user_id:b"
C, C2, D = "anonymous_id:c", "anonymous_id:c2", "device_id:d"


def test_an_anonymous_history_becomes_the_persons_at_login() -> None:
    world = World(saw(C, 0), saw(f"{A} {C}", 1))
    assert world.people() == people(f"{A} {C}")
    assert world.owner(A) == C


def test_two_users_on_one_device_stay_two_and_the_device_is_shared_from_then_on() -> None:
    world = World(saw(f"{A} {C}", 0), saw(f"{B} {C}", 5))
    assert world.people() == people(A, B, C)
    assert world.refused() == {(B, C, "unique_conflict")}
    assert world.owner(C, 4.9) == world.owner(A)
    assert world.owner(C, 5) == world.owner(C) == f"shared({C})"


def test_a_reset_before_the_next_login_separates_the_users() -> None:
    world = World(saw(f"{A} {C}", 0), saw(C2, 1), saw(f"{B} {C2}", 2))
    assert world.people() == people(f"{A} {C}", f"{B} {C2}")
    assert not world.refused()


def test_a_device_id_that_survives_the_reset_does_not_glue_the_users() -> None:
    world = World(saw(f"{A} {C} {D}", 0), saw(f"{C2} {D}", 1), saw(f"{B} {C2} {D}", 2))
    assert world.owner(A) != world.owner(B)
    assert world.owner(D) == f"shared({D})"
    assert world.owner(C2) == world.owner(B)


def test_one_email_on_two_users_stays_with_the_older_holder() -> None:
    world = World(saw(f"{A} email:e@x", 0), saw(f"{B} email:e@x", 5))
    assert world.people() == people(f"{A} email:e@x", B)
    assert world.refused() == {(B, "email:e@x", "unique_conflict")}


def test_a_new_email_of_one_user_is_added_to_the_old_one() -> None:
    world = World(saw(f"{A} email:old@x", 0), saw(f"{A} email:new@x", 5))
    assert world.people() == people(f"{A} email:old@x email:new@x")


def test_a_phone_moves_to_its_new_owner_after_180_silent_days() -> None:
    world = World(saw(f"{A} phone:+8613800138000", 0), saw(f"{B} phone:+8613800138000", 181))
    assert world.owner("phone:+8613800138000", 180.9) == world.owner(A)
    assert world.owner("phone:+8613800138000") == world.owner(B)
    assert not world.refused()


def test_a_phone_stays_while_its_holder_was_seen_with_it_within_180_days() -> None:
    phone = "phone:+8613800138000"
    world = World(saw(f"{A} {phone}", 0), saw(f"{A} {phone}", 100), saw(f"{B} {phone}", 181))
    assert world.owner(phone) == world.owner(A)


def test_a_refused_claim_wins_the_phone_when_repeated_after_180_silent_days() -> None:
    phone = "phone:+8613800138000"
    world = World(saw(f"{A} {phone}", 0), saw(f"{B} {phone}", 10), saw(f"{B} {phone}", 190))
    assert world.owner(phone, 189) == world.owner(A)
    assert world.owner(phone) == world.owner(B)


def test_a_former_holder_who_comes_back_has_to_wait_as_well() -> None:
    phone = "phone:+8613800138000"
    seen = [saw(f"{A} {phone}", 0), saw(f"{B} {phone}", 200), saw(f"{A} {phone}", 210)]
    world = World(*seen)
    assert world.owner(phone) == world.owner(B)
    assert world.refused() == {(A, phone, "unique_conflict")}
    assert World(*seen, saw(f"{A} {phone}", 400)).owner(phone) == world.owner(A)


def test_an_identifier_of_more_users_than_the_limit_glues_nobody() -> None:
    users = [f"user_id:u{number}" for number in range(6)]
    card = "member_card:00001"
    world = World(*(saw(f"{user} {card}", day) for day, user in enumerate(users)))
    assert world.people() == people(*users, card)
    assert {reason for _, _, reason in world.refused()} == {"hot_identifier"}


def test_up_to_the_limit_an_identifier_stays_with_its_first_user() -> None:
    users = [f"user_id:u{number}" for number in range(5)]
    world = World(*(saw(f"{user} email:e@x", day) for day, user in enumerate(users)))
    assert world.owner("email:e@x") == world.owner("user_id:u0")


def test_a_landline_on_many_guests_glues_nobody() -> None:
    line = "phone:+862112345678"
    guests = [f"email:g{number}@x" for number in range(6)]
    world = World(*(saw(f"{guest} {line}", day) for day, guest in enumerate(guests)))
    assert world.people() == people(*guests, line)


def test_a_late_alias_joins_what_lay_apart_for_weeks() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"crm_id:k {D}", 20)]
    assert len(World(*seen).people()) == 2
    world = World(*seen, saw(f"{A} crm_id:k", 40))
    assert world.people() == people(f"{A} crm_id:k {C} {D}")


def test_an_alias_of_two_known_users_is_refused() -> None:
    world = World(saw(f"{A} {C}", 0), saw(f"{B} {C2}", 1), saw(f"{A} {B}", 2))
    assert world.people() == people(f"{A} {C}", f"{B} {C2}")
    assert world.refused() == {(A, B, "unique_conflict")}


def test_joins_of_a_and_b_and_of_b_and_c_make_one_whatever_comes_first() -> None:
    first, second = saw(f"{A} crm_id:k", 0), saw("crm_id:k member_card:m", 0)
    assert World(first, second).people() == people(f"{A} crm_id:k member_card:m")
    assert World(second, first).people() == people(f"{A} crm_id:k member_card:m")


def test_a_cycle_of_aliases_is_one_person_named_by_rule_not_by_arrival() -> None:
    there, back = saw(f"{C} {C2}", 1, message="1"), saw(f"{C2} {C}", 1, message="2")
    assert World(there, back).owner(C) == World(back, there).owner(C) == C


def test_an_identify_before_the_page_view_gives_what_the_right_order_gives() -> None:
    page, identify = saw(C, 0), saw(f"{A} {C}", 1)
    late, right = World(identify, page), World(page, identify)
    assert late.owner(A) == right.owner(A) == C


def test_a_duplicate_changes_nothing() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"{B} {C}", 1)]
    once, twice = World(*seen), World(*seen, *seen)
    assert once.resolution == twice.resolution


def test_a_self_alias_is_one_node_and_no_link() -> None:
    assert World(saw(A, 0), saw(A, 1)).links == []


def test_an_absorbed_root_leads_straight_to_the_last_one() -> None:
    world = World(
        saw("device_id:d3", 2), saw("device_id:d2", 1), saw("device_id:d1", 0),
        saw("device_id:d3 device_id:d2", 3), saw("device_id:d2 device_id:d1", 4),
    )  # fmt: skip
    assert world.owner("device_id:d3") == "device_id:d1"


def test_one_event_with_the_ids_of_three_profiles_makes_one() -> None:
    world = World(
        saw(f"{A} {C}", 0), saw(f"crm_id:k {D}", 1), saw("email:e@x", 2),
        saw(f"{A} crm_id:k email:e@x", 3),
    )  # fmt: skip
    assert world.people() == people(f"{A} crm_id:k email:e@x {C} {D}")


def test_an_event_that_names_two_users_joins_only_what_fits() -> None:
    world = World(saw(f"{A} {B} email:e@x {C}", 0))
    assert world.people() == people(f"{A} email:e@x {C}", B)


def test_of_two_joined_devices_the_second_follows_its_own_user_from_his_login() -> None:
    world = World(saw(f"{C} {C2}", 0), saw(f"{A} {C}", 1), saw(f"{B} {C2}", 5))
    assert world.owner(C2, 4) == world.owner(A)
    assert world.owner(C2, 5) == world.owner(C2) == world.owner(B)
    assert world.owner(C) == world.owner(A)


def test_a_test_user_with_the_addresses_of_a_whole_shop_is_nobody() -> None:
    known = [saw(f"{A} email:e{n}@x.cn", n) for n in range(40)]
    assert (A, "email:e20@x.cn", "limit") in World(*known).refused()
    world = World(*known, saw(f"{A} email:e40@x.cn", 40))
    assert world.refused() == {(f"email:e{n}@x.cn", A, "hot_identifier") for n in range(41)}
    assert len(world.people()) == 42


def test_a_test_user_on_every_phone_of_a_shop_is_nobody_once_he_is_on_twice_too_many() -> None:
    few = RULES.rule_of("anonymous_id").model_copy(update={"limit": 30})
    rules = RULES.model_copy(update={"types": {**RULES.types, "anonymous_id": few}})
    seen = [saw(f"user_id:abc123 anonymous_id:d{n}", n / 10) for n in range(61)]
    assert len(World(*seen[:60], rules=rules).people()) == 31
    assert len(World(*seen, rules=rules).people()) == 62


def test_over_the_limit_a_device_stays_alone_and_its_user_whole() -> None:
    world = World(*(saw(f"{A} anonymous_id:d{day:04}", day / 100) for day in range(1001)))
    assert world.owner("anonymous_id:d0999") == world.owner(A)
    assert world.owner("anonymous_id:d1000") == "anonymous_id:d1000"
    assert world.refused() == {(A, "anonymous_id:d1000", "limit")}


def test_a_device_that_is_shared_by_now_counts_no_more_toward_its_first_users_limit() -> None:
    one = RULES.rule_of("device_id").model_copy(update={"limit": 1})
    rules = RULES.model_copy(update={"types": {**RULES.types, "device_id": one}})
    seen = [saw(f"{A} {D}", 0), saw(f"{B} {D}", 1), saw(f"{A} device_id:e", 2)]
    assert World(*seen, rules=rules).owner("device_id:e") == A
    assert World(seen[0], seen[2], rules=rules).owner("device_id:e") == "device_id:e"


def test_a_device_that_followed_its_owner_counts_toward_the_owners_limit() -> None:
    one = RULES.rule_of("anonymous_id").model_copy(update={"limit": 1})
    rules = RULES.model_copy(update={"types": {**RULES.types, "anonymous_id": one}})
    seen = [saw(f"{A} {D}", 0), saw(f"{D} {C}", 1), saw(f"{B} {C}", 2), saw(f"{B} {C2}", 3)]
    world = World(*seen, rules=rules)
    assert world.owner(C) == B
    assert (B, C2, "limit") in world.refused()


def test_a_limit_with_a_window_counts_only_what_was_new_within_it() -> None:
    devices = RULES.rule_of("anonymous_id").model_copy(
        update={"limit": 2, "window": timedelta(days=7)}
    )
    rules = RULES.model_copy(update={"types": {**RULES.types, "anonymous_id": devices}})
    at_once = World(*(saw(f"{A} anonymous_id:d{day}", day) for day in range(4)), rules=rules)
    assert at_once.refused() == {
        (A, "anonymous_id:d2", "limit"),
        (A, "anonymous_id:d3", "limit"),
    }
    weekly = World(*(saw(f"{A} anonymous_id:d{day}", day * 4) for day in range(9)), rules=rules)
    assert not weekly.refused()
    assert len(weekly.people()) == 1


def test_a_household_with_one_email_is_two_people() -> None:
    world = World(saw(f"{A} email:home@x {C}", 0), saw(f"{B} email:home@x {C2}", 1))
    assert world.people() == people(f"{A} email:home@x {C}", f"{B} {C2}")


def test_a_guest_checkout_becomes_the_registered_persons() -> None:
    guest = saw(f"email:g@x {C}", 0, public=True)
    assert World(guest, saw(f"{A} email:g@x {C2}", 5, public=True)).people() == people(
        f"{A} email:g@x {C} {C2}"
    )


def test_a_guests_other_email_on_a_known_persons_device_stays_apart() -> None:
    world = World(saw(f"{A} email:tom@x {C}", 0), saw(f"email:summer@x {C}", 1))
    assert world.owner("email:summer@x") == "email:summer@x"
    assert world.owner(C, 0.5) == world.owner(A)
    assert world.owner(C) == f"shared({C})"
    assert world.refused() == {("email:summer@x", C, "other_contact")}


def test_a_guests_email_joins_a_known_person_who_has_none() -> None:
    world = World(saw(f"{A} {C}", 0), saw(f"email:g@x {C}", 1))
    assert world.people() == people(f"{A} {C} email:g@x")


def test_a_withdrawn_link_leaves_people_as_if_it_had_never_been() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"crm_id:k {D}", 1), saw(C, 5)]
    wrong = saw(f"{A} crm_id:k", 3)
    assert len(World(*seen, wrong).people()) == 1
    assert World(*seen).people() == people(f"{A} {C}", f"crm_id:k {D}")


def test_two_openids_of_one_unionid_are_one_person() -> None:
    world = World(
        saw("wechat_unionid:u wechat_openid:o1", 0), saw("wechat_unionid:u wechat_openid:o2", 1)
    )
    assert len(world.people()) == 1


def test_a_browser_never_joins_two_known_people() -> None:
    known = [saw("crm_id:k email:k@x", 0), saw(f"{A} email:a@x", 1)]
    claim = f"{A} crm_id:k"
    assert len(World(*known, saw(claim, 2, public=True)).people()) == 2
    assert World(*known, saw(claim, 2, public=True)).refused() == {(A, "crm_id:k", "public_source")}
    assert len(World(*known, saw(claim, 2)).people()) == 1


def test_a_browser_may_introduce_a_person_and_add_to_one() -> None:
    world = World(
        saw(f"{C}", 0, public=True),
        saw(f"{A} email:a@x {C}", 1, public=True),
        saw(f"{A} wechat_unionid:u", 2, public=True),
    )
    assert world.people() == people(f"{A} email:a@x wechat_unionid:u {C}")


def test_a_backdated_claim_of_a_browser_counts_from_its_receipt() -> None:
    world = World(
        saw(f"{A} email:e@x", 30),
        saw(f"{B} email:e@x", 1, public=True, received=40),
    )
    assert world.owner("email:e@x") == world.owner(A)
    trusted = World(saw(f"{A} email:e@x", 30), saw(f"{B} email:e@x", 1, received=40))
    assert trusted.owner("email:e@x") == trusted.owner(B)


def test_a_browser_may_sign_up_a_new_user_with_a_known_contact() -> None:
    known = saw("crm_id:k email:k@x", 0)
    new = World(known, saw(f"{A} email:k@x {C}", 2, public=True))
    assert new.people() == people(f"crm_id:k email:k@x {A} {C}")
    old = World(known, saw(f"{A} {C}", 1, public=True), saw(f"{A} email:k@x", 2, public=True))
    assert old.people() == people("crm_id:k email:k@x", f"{A} {C}")


def test_a_person_is_known_since_the_oldest_identifier() -> None:
    world = World(
        saw("email:e@x", 0), saw(f"{A} email:e@x", 2, message="1"), saw("crm_id:k", 1),
        saw(f"{A} crm_id:k", 2, message="2", public=True),
    )  # fmt: skip
    assert world.refused() == {(A, "crm_id:k", "public_source")}


def test_of_two_claims_at_one_moment_the_lesser_message_id_counts_first() -> None:
    world = World(saw(f"{A} email:e@x", 0, message="2"), saw(f"{B} email:e@x", 0, message="1"))
    assert world.owner("email:e@x") == world.owner(B)


def test_of_two_contacts_claimed_again_at_once_the_stronger_one_is_looked_at_first() -> None:
    email, phone = "email:e@x", "phone:+8613800138000"
    claim = f"{A} {email} {phone}"
    seen = [
        saw(f"{B} member_card:b {email}", 0), saw(f"user_id:c member_card:c {phone}", 0),
        saw(claim, 10), saw(f"crm_id:1 member_card:1 {email}", 200),
        saw(f"crm_id:2 member_card:2 {phone}", 200), saw(claim, 390),
    ]  # fmt: skip
    for order in (seen, [saw(phone, 0), *reversed(seen)]):
        world = World(*order)
        assert world.owner(A) == world.owner("crm_id:1")
        assert world.owner(A) != world.owner("crm_id:2")


def test_a_person_whose_phone_moved_on_may_have_a_new_one_by_a_guest_order() -> None:
    old, new = "phone:+8613800138000", "phone:+8613900139000"
    world = World(saw(f"{A} {old} {C}", 0), saw(f"{B} {old}", 200), saw(f"{new} {C}", 201))
    assert world.owner(new) == world.owner(A)


def test_a_device_is_whole_again_when_its_two_users_prove_to_be_one() -> None:
    seen = [saw(f"{A} {C}", 0), saw(f"crm_id:k {C2}", 1), saw(f"crm_id:k {C}", 2, public=True)]
    assert World(*seen).owner(C) == f"shared({C})"
    world = World(*seen, saw(f"{A} crm_id:k", 3))
    assert world.people() == people(f"{A} crm_id:k {C} {C2}")
    assert not world.refused()


def test_a_shared_device_takes_no_newcomer_with_it() -> None:
    world = World(saw(f"{A} {D}", 0), saw(f"{B} {D}", 1), saw(f"{C} {D}", 2))
    assert world.owner(C) == C
    assert (C, D, "shared_device") in world.refused()


@pytest.mark.parametrize("seed", range(3))
def test_every_result_is_independent_of_the_order_of_arrival(seed: int) -> None:
    seen: list[Observation] = [
        saw(f"{A} {C} {D}", 0), saw(f"{C2} {D}", 1), saw(f"{B} {C2} {D}", 2),
        saw(f"{A} email:e@x", 3), saw(f"{B} email:e@x", 200), saw("crm_id:k email:e@x", 201),
    ]  # fmt: skip
    straight = World(*seen)
    random.Random(seed).shuffle(seen)
    shuffled = World(*seen)
    assert shuffled.people() == straight.people()
    assert shuffled.refused() == straight.refused()
