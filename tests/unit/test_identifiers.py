"""What names somebody, and how it is spelt."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cdp.identity.identifiers import MAX_LENGTH, identify, normalise
from cdp.identity.profile_id import make_profile_id
from cdp.identity.rules import default_rules, parse_rules
from cdp.model import Identifier

RULES = default_rules("CN")
BRITISH = default_rules("GB")


@pytest.mark.parametrize(
    ("raw", "spelt"),
    [
        ("User@X.cn", "user@x.cn"),
        ("  ann@example.com\n", "ann@example.com"),
        ("mailto:ann@example.com", "ann@example.com"),
        ("no mail", None),
        ("@example.com", None),
        ("test@test.com", None),
    ],
)
def test_an_email_is_trimmed_and_lowered_and_must_look_like_one(
    raw: str, spelt: str | None
) -> None:
    assert normalise("email", raw, RULES) == spelt


@pytest.mark.parametrize(
    ("raw", "spelt"),
    [
        ("13800138000", "+8613800138000"),
        ("138 0013 8000", "+8613800138000"),
        ("+86 138-0013-8000", "+8613800138000"),
        (13800138000, "+8613800138000"),
        ("+44 7911 123456", "+447911123456"),
        ("0000", None),
        ("call me", None),
        ("123", None),
    ],
)
def test_a_phone_becomes_e164_with_the_workspaces_country(raw: object, spelt: str | None) -> None:
    assert normalise("phone", raw, RULES) == spelt


def test_a_national_phone_is_read_with_the_country_of_the_rules() -> None:
    assert normalise("phone", "07911 123456", BRITISH) == "+447911123456"


@pytest.mark.parametrize("raw", ["USER-456", "user-456", "ＵＳＥＲ", "00420", "a b"])
def test_a_strong_identifier_is_only_trimmed(raw: str) -> None:
    assert normalise("user_id", f" {raw} ", RULES) == raw


def test_a_whole_number_and_its_digits_are_one_identifier() -> None:
    assert normalise("user_id", 12345, RULES) == normalise("user_id", "12345", RULES) == "12345"


@pytest.mark.parametrize("raw", [None, "", "   ", 1.5, float("nan"), True, False, [], {}])
def test_what_is_no_text_and_no_whole_number_names_nobody(raw: object) -> None:
    assert identify([("user_id", raw)], RULES) == ()


@pytest.mark.parametrize(
    "raw",
    ["null", "NULL", "undefined", "None", "0", "0000", "00000000-0000-0000-0000-000000000000",
     "-1", "[object Object]", "anonymous", "Guest", '"null"', "'undefined'", "''", "NaN"],
)  # fmt: skip
def test_a_placeholder_names_nobody(raw: str) -> None:
    assert identify([("user_id", raw), ("anonymous_id", raw), ("loyalty_no", raw)], RULES) == ()


def test_what_only_begins_like_a_placeholder_is_a_name() -> None:
    assert identify([("user_id", "nullius"), ("crm_id", "0001")], RULES) == (
        Identifier("user_id", "nullius"),
        Identifier("crm_id", "0001"),
    )


def test_a_number_is_not_mistaken_for_a_truth_value_remembered_before() -> None:
    assert identify([("user_id", 1)], RULES) == (Identifier("user_id", "1"),)
    assert identify([("user_id", True)], RULES) == ()


def test_identifiers_come_strongest_first_without_duplicates() -> None:
    claims = [
        ("device_id", "d"), ("anonymous_id", "c"), ("email", "A@x.cn"), ("email", "a@x.cn"),
        ("phone", "13800138000"), ("loyalty_no", "77"), ("user_id", 42), ("crm_id", "K1"),
    ]  # fmt: skip
    assert [found.type for found in identify(claims, RULES)] == [
        "user_id", "crm_id", "email", "phone", "loyalty_no", "anonymous_id", "device_id",
    ]  # fmt: skip


def test_a_value_longer_than_an_index_takes_names_nobody() -> None:
    assert normalise("user_id", "x" * MAX_LENGTH, RULES) == "x" * MAX_LENGTH
    assert normalise("user_id", "x" * (MAX_LENGTH + 1), RULES) is None


def test_text_that_a_database_cannot_hold_is_made_holdable() -> None:
    assert normalise("user_id", "a\0b", RULES) == "a\ufffdb"
    spelt = normalise("user_id", "a\ud800b", RULES)
    assert spelt is not None
    assert spelt.encode("utf-8")


def test_rules_survive_the_way_to_json_and_back() -> None:
    document = RULES.document()
    assert document["types"]["user_id"]["unique"] is True
    assert document["types"]["email"]["class"] == "contact"
    assert document["rebind_after"] == "180d"
    assert parse_rules(document) == RULES


def test_rules_with_an_unreadable_pattern_or_an_unknown_member_are_refused() -> None:
    document = RULES.document()
    document["types"]["user_id"]["blocked_patterns"] = ["("]
    with pytest.raises(ValidationError, match="blocked_patterns"):
        parse_rules(document)
    with pytest.raises(ValidationError, match="hotlimit"):
        parse_rules({**RULES.document(), "hotlimit": 3})


def test_a_profile_id_depends_on_the_salt_the_identifier_and_the_variant() -> None:
    made = make_profile_id(b"salt", "user_id", "42")
    assert made == make_profile_id(b"salt", "user_id", "42")
    assert len(made) == len("prf_") + 26
    others = {
        make_profile_id(b"other", "user_id", "42"),
        make_profile_id(b"salt", "crm_id", "42"),
        make_profile_id(b"salt", "user_id", "43"),
        make_profile_id(b"salt", "user_id", "42", "shared"),
    }
    assert len(others | {made}) == 5
