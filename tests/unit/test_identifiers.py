"""What names somebody, and how it is spelt."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.identifiers import MAX_LENGTH, identify, normalise
from cdp.identity.profile_id import make_profile_id
from cdp.identity.rules import Rules, default_rules, parse_rules
from cdp.identity.twins import digest
from cdp.model import Identifier, Scoped

RULES = default_rules("CN")
BRITISH = default_rules("GB")


@pytest.mark.parametrize(
    ("raw", "spelt"),
    [
        ("User@X.cn", "user@x.cn"),
        ("  ann@example.com\n", "ann@example.com"),
        ("mailto:ann@example.com", "ann@example.com"),
        ("ａｎｎ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ann@example.com"),
        ("ann@example。com", "ann@example.com"),
        ("\u200bann@example.com\ufeff", "ann@example.com"),
        ("anne\u0301@example.com", "ann\u00e9@example.com"),
        ("ann.b+shop@example.com", "ann.b+shop@example.com"),
        ("\u0430nn@example.com", "\u0430nn@example.com"),
        ("noreply@example.com", None),
        ("null@example.com", None),
        ("an n@example.com", None),
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
        ("１３８００１３８０００", "+8613800138000"),
        ("＋８６ １３８ ００１３ ８０００", "+8613800138000"),
        ("\u202d13800138000\u202c", "+8613800138000"),
        ("008613800138000", "+8613800138000"),
        ("021-12345678", "+862112345678"),
        ("021-12345678 ext. 801", "+862112345678;ext=801"),
        ("021-12345678转801", "+862112345678;ext=801"),
        ("00000000000", None),
        ("11111111111", None),
        ("12345678901", None),
        ("400-820-8820", None),
        ("10086", None),
        ("95588", None),
        ("0000", None),
        ("call me", None),
        ("123", None),
    ],
)
def test_a_phone_becomes_e164_with_the_workspaces_country(raw: object, spelt: str | None) -> None:
    assert normalise("phone", raw, RULES) == spelt


def test_a_number_is_one_however_it_is_dialled() -> None:
    assert normalise("phone", "07911 123456", BRITISH) == normalise(
        "phone", "+44 7911 123456", RULES
    )


@pytest.mark.parametrize(
    ("how", "spelt"),
    [
        ("none", " Ab\u3000C "),
        ("trim", "Ab\u3000C"),
        ("lower", "ab\u3000c"),
        ("upper", "AB\u3000C"),
        ("email", None),
        ("phone", None),
    ],
)
def test_a_type_is_spelt_as_its_rule_says(how: str, spelt: str | None) -> None:
    document = RULES.document()
    document["types"]["mine"] = {"normalise": how}
    assert normalise("mine", " Ab\u3000C ", parse_rules(document)) == spelt


VALUES = st.one_of(
    st.text(max_size=40),
    st.emails(),
    st.from_regex(r"[+ ]{0,2}[0-9 -]{5,16}( ext\. ?[0-9]{1,4})?", fullmatch=True),
    st.integers(),
)
TYPES = sorted({*RULES.types, "loyalty_no"} - {"*"})


@given(st.sampled_from(TYPES), VALUES, st.sampled_from([RULES, BRITISH]))
def test_what_is_spelt_is_spelt_so_again(kind: str, value: object, rules: Rules) -> None:
    once = normalise(kind, value, rules)
    assert once is None or normalise(kind, once, rules) == once


@given(st.lists(st.tuples(st.sampled_from(TYPES), VALUES), max_size=6), st.randoms())
def test_who_is_named_does_not_depend_on_the_order_of_claims(
    claims: list[tuple[str, object]], chance: Random
) -> None:
    shuffled = claims.copy()
    chance.shuffle(shuffled)
    assert set(identify(shuffled, RULES)) == set(identify(claims, RULES))


@pytest.mark.parametrize("kind", ["", "a b", "x" * 101, "a:b", "id", "a\0", "\ud800"])
def test_a_claim_of_a_type_that_can_be_none_names_nobody(kind: str) -> None:
    assert identify([(kind, "1")], RULES) == ()


DIGEST = digest("ann@example.com")


@pytest.mark.parametrize(
    ("raw", "spelt"),
    [
        (DIGEST.upper(), DIGEST),
        (f" {DIGEST} ", DIGEST),
        ("ann@example.com", None),
        (DIGEST[1:], None),
        (digest(""), None),
        (digest("null"), None),
        (digest("test@test.com"), None),
    ],
)
def test_a_hashed_form_is_64_hexadecimal_digits_of_something(raw: str, spelt: str | None) -> None:
    assert normalise("email_sha256", raw, RULES) == spelt


def test_blocking_an_address_blocks_its_hash_and_the_other_way_round() -> None:
    clear, hashed = Identifier("email", "ann@example.com"), Identifier("email_sha256", DIGEST)
    for blocked in (clear, hashed):
        rules = RULES.with_blocks(frozenset({blocked}))
        assert normalise(*clear, rules) is None
        assert normalise(*hashed, rules) is None
        assert normalise("email", "bob@example.com", rules) == "bob@example.com"


@pytest.mark.parametrize(
    ("kind", "app", "system", "spelt"),
    [
        ("crm_id", None, "eu", "eu::7"),
        ("crm_id", "com.shop.app", None, "7"),
        ("loyalty_no", None, "eu", "eu::7"),
        ("wechat_openid", "wx12ab", None, "wx12ab::7"),
        ("wechat_openid", "wx12ab", "wx99", "wx99::7"),
        ("wechat_openid", "com.shop.app", None, "7"),
        ("wechat_unionid", "wx12ab", "eu", "7"),
        ("user_id", "wx12ab", "eu", "7"),
    ],
)
def test_a_type_with_a_scope_is_told_apart_by_app_or_system(
    kind: str, app: str | None, system: str | None, spelt: str
) -> None:
    assert normalise(kind, Scoped("7", app, system), RULES) == spelt
    assert normalise(kind, Scoped(7, app, system), RULES) == spelt
    assert normalise(kind, Scoped(spelt, app, system), RULES) == spelt


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
     "-1", "[object Object]", "anonymous", "Guest", '"null"', "'undefined'", "''", "NaN",
     "游客", "匿名用户", "未知", "测试", "-", "--", "???", "{{user.id}}", "${uid}", "%%ID%%"],
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
