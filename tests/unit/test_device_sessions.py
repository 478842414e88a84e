"""By a setting, a shared device is for a while of whoever was last authenticated on it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from cdp.identity.rules import Rules
from cdp.model import Observation
from tests.support.device_uses import MINUTE, SESSIONS, settle
from tests.support.identity_oracle import judge
from tests.support.identity_oracle_sessions import give_devices_to_the_last_seen
from tests.support.identity_world import World, names, saw

A, B, C, D = "user_id:a", "user_id:b", "anonymous_id:c", "device_id:d"
SHARED = f"shared({C})"
# Two people on one device: it is shared from day 5 on.
_BOTH = [saw(f"{A} {C}", 0), saw(f"{B} {C}", 5)]


def _owners(seen: list[Observation], *days: float, rules: Rules = SESSIONS) -> list[str]:
    world = World(*seen, rules=rules)
    world.resolution = settle(world, seen, rules)
    return [world.owner(C, day) for day in days]


def _name(user: str, seen: list[Observation]) -> str:
    return World(*seen, rules=SESSIONS).owner(user)


def test_who_logs_in_on_a_shared_device_has_it_for_half_an_hour() -> None:
    days = [4.9, 5, 5 + 29 * MINUTE, 5 + 30 * MINUTE, 9]
    b = _name(B, _BOTH)
    assert _owners(_BOTH, *days) == [_name(A, _BOTH), b, b, SHARED, SHARED]


def test_by_default_a_shared_device_is_nobodys() -> None:
    world = World(*_BOTH)
    assert world.owner(C, 5) == SHARED


def test_each_sign_of_the_person_prolongs_the_session() -> None:
    seen = [*_BOTH, saw(f"{B} {C}", 5 + 20 * MINUTE, message="again")]
    owners = _owners(seen, 5 + 45 * MINUTE, 5 + 51 * MINUTE)
    assert owners == [_name(B, seen), SHARED]


def test_whoever_logs_in_next_ends_the_session_of_the_one_before() -> None:
    back = saw(f"{A} {C}", 5 + 10 * MINUTE, message="back")
    seen = [*_BOTH, back]
    owners = _owners(seen, 5 + 9 * MINUTE, 5 + 10 * MINUTE, 5 + 39 * MINUTE, 5 + 41 * MINUTE)
    a = _name(A, seen)
    assert owners == [_name(B, seen), a, a, SHARED]


def test_what_a_device_did_before_it_was_shared_stays_with_its_first_person() -> None:
    seen = [*_BOTH, saw(f"{A} {C}", 2, message="early")]
    assert _owners(seen, 1, 2 + 31 * MINUTE) == [_name(A, seen)] * 2


def test_the_length_of_a_session_is_a_setting() -> None:
    rules = SESSIONS.model_copy(update={"session_timeout": timedelta(hours=2)})
    assert _owners(_BOTH, 5 + 119 * MINUTE, 5 + 121 * MINUTE, rules=rules) == [
        _name(B, _BOTH), SHARED
    ]  # fmt: skip


def test_a_guests_contact_is_a_sign_of_a_person_and_another_device_is_none() -> None:
    guests = [saw(f"email:g@x {C}", 5.5), saw(f"email:h@x {C}", 6)]
    seen = [*_BOTH, *guests, saw(f"{A} {C}", 7, message="again")]
    world = World(*seen, rules=SESSIONS, decided=[("detached", f"{C} {A}", 9)])
    world.resolution = settle(world, seen)
    assert [world.owner(C, day) for day in (6, 7)] == ["email:h@x", SHARED]


def test_a_session_by_a_contact_that_moves_meanwhile_goes_on_with_its_new_owner() -> None:
    phone = "phone:+8613800138000"
    seen = [*_BOTH, saw(f"{A} {phone}", 0), saw(f"{phone} {C}", 200)]
    seen.append(saw(f"{B} {phone}", 200 + 10 * MINUTE))
    assert _owners(seen, 200 + 9 * MINUTE, 200 + 10 * MINUTE, 200 + 30 * MINUTE) == [
        _name(A, seen), _name(B, seen), SHARED
    ]  # fmt: skip


def test_time_spans_cover_all_time_once() -> None:
    seen = [
        *_BOTH,
        *(saw(f"{A if n % 2 else B} {C}", 6 + n / 50, message=f"{n}") for n in range(9)),
    ]
    for spans in settle(World(*seen, rules=SESSIONS), seen).assignments.values():
        assert spans[0].since is None
        assert spans[-1].until is None
        for before, after in pairwise(spans):
            assert before.until == after.since
            assert before.profile != after.profile


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["a first", "b first"])
def test_of_two_people_at_one_moment_the_lesser_name_has_it_whoever_is_told_first(
    order: tuple[int, int],
) -> None:
    at_once = [saw(f"{A} {C}", 6), saw(f"{B} {C}", 6)]
    seen = [*_BOTH, *(at_once[n] for n in order)]
    verdict = judge(seen, SESSIONS)
    give_devices_to_the_last_seen(verdict, seen, SESSIONS)
    owners = [place.name for since, _, place in verdict.spans[names(C)[0]] if since == seen[2].at]
    assert owners == list(names(A))
    assert _owners(seen, 6) == [_name(A, seen)]
