"""What a person's traits and consents come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cdp.errors import NotFound
from cdp.model import Identifier
from cdp.profiles.consent import Statement, join_consents
from cdp.profiles.profile_names import keep_encoded_slashes, parse_profile_name
from cdp.profiles.search_routes import read_search, split_path
from cdp.profiles.search_store import TraitFilter
from cdp.profiles.traits import Register, join_traits

START = datetime(2026, 3, 1, tzinfo=UTC)


def _hour(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def _say(name: str, value: object, hour: float, message: str = "m") -> Register:
    return Register(name, value, _hour(hour), message, 1)


def _state(granted: bool, hour: float, node: int, purpose: str = "marketing") -> Statement:
    return Statement(purpose, granted, _hour(hour), f"m{hour}", 1, node)


def test_the_newest_value_counts_whatever_the_order_of_arrival() -> None:
    joined = join_traits([_say("plan", "pro", 2), _say("plan", "free", 1)])
    assert joined["plan"].value == "pro"


def test_at_the_same_time_the_greater_message_id_counts() -> None:
    joined = join_traits([_say("plan", "b", 1, "m2"), _say("plan", "a", 1, "m1")])
    assert joined["plan"].value == "b"


def test_null_removes_a_trait_and_empty_text_does_not() -> None:
    said = [_say("a", 1, 1), _say("a", None, 2), _say("b", "", 1), _say("c", None, 1)]
    assert {name: r.value for name, r in join_traits(said).items()} == {"b": ""}


def test_what_is_said_later_than_the_moment_does_not_count_yet() -> None:
    said = [_say("plan", "free", 1), _say("plan", "pro", 3)]
    assert join_traits(said, _hour(2))["plan"].value == "free"
    assert join_traits(said, _hour(3))["plan"].value == "pro"


def test_without_a_join_the_newest_statement_counts() -> None:
    counted = join_consents([_state(False, 1, 1), _state(True, 2, 1)], None, _hour(9))
    assert counted["marketing"].granted


def test_after_a_join_the_most_restrictive_of_each_newest_counts() -> None:
    statements = [_state(True, 1, 1), _state(False, 2, 2), _state(True, 3, 1)]
    assert not join_consents(statements, _hour(5), _hour(9))["marketing"].granted


def test_a_refusal_that_its_own_person_took_back_before_the_join_is_gone() -> None:
    statements = [_state(False, 1, 1), _state(True, 2, 1), _state(True, 3, 2)]
    assert join_consents(statements, _hour(5), _hour(9))["marketing"].granted


def test_a_statement_after_the_join_replaces_them_all() -> None:
    statements = [_state(False, 2, 2), _state(True, 6, 1)]
    assert join_consents(statements, _hour(5), _hour(9))["marketing"].granted


def test_a_statement_from_the_future_does_not_count_before_it() -> None:
    statements = [_state(True, 1, 1), _state(False, 8, 1)]
    assert join_consents(statements, None, _hour(7))["marketing"].granted
    assert join_consents([_state(True, 8, 1)], None, _hour(7)) == {}


def test_purposes_do_not_mix() -> None:
    statements = [_state(True, 1, 1), _state(False, 2, 1, "analytics")]
    counted = join_consents(statements, None, _hour(9))
    assert {purpose: s.granted for purpose, s in counted.items()} == {
        "analytics": False,
        "marketing": True,
    }


def _lower(kind: str, value: str) -> str | None:
    return value.strip().lower() or None


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("email:Ann@Example.com", Identifier("email", "ann@example.com")),
        ("url:https://x.io/a:b", Identifier("url", "https://x.io/a:b")),
        ("id:prf_ABC", Identifier("id", "prf_ABC")),
        ("prf_ABC", Identifier("id", "prf_ABC")),
        ("path:a\ufdd0b", Identifier("path", "a/b")),
    ],
)
def test_a_name_is_read_up_to_its_first_colon(name: str, identifier: Identifier) -> None:
    assert parse_profile_name(name, _lower) == identifier


@pytest.mark.parametrize("name", ["ann", "email:", "email: ", "email:a\0b"])
def test_a_name_that_can_name_nobody_is_not_found(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        parse_profile_name(name, _lower)
    assert caught.value.code == "profile_not_found"


def test_an_encoded_slash_does_not_split_the_path() -> None:
    raw = b"/v1/profiles/user_id:a%2Fb%2fc/events"
    path = keep_encoded_slashes("/v1/profiles/user_id:a/b/c/events", raw)
    assert path == "/v1/profiles/user_id:a\ufdd0b\ufdd0c/events"
    assert keep_encoded_slashes("/v1/a%2Fb", b"/v1/a%252Fb") == "/v1/a%2Fb"


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("city", ["city"]),
        ("address.city", ["address", "city"]),
        (r"a\.b.c", ["a.b", "c"]),
        (r"a\\.b", ["a\\", "b"]),
        ("", [""]),
        ("a..b", ["a", "", "b"]),
    ],
)
def test_a_path_splits_at_the_dots_that_are_not_escaped(path: str, steps: list[str]) -> None:
    assert split_path(path) == steps


def test_filters_are_the_parameters_that_begin_with_trait() -> None:
    parameters = [("trait.city", "上海"), ("trait.address.zip", "200000"), ("q", "ann")]
    assert read_search(parameters, lambda _, value: value).traits == (
        TraitFilter("city", (), "上海"),
        TraitFilter("address", ("zip",), "200000"),
    )
