"""The document of rules: what it may say, and what it says where it is silent."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cdp.errors import Unprocessable
from cdp.identity.change_rules_store import read_document
from cdp.identity.identifiers import normalise
from cdp.identity.patterns import compile_pattern
from cdp.identity.rules import Rules, default_rules, parse_rules
from tests.support.identity_world import World, saw

RULES = default_rules("CN")


def with_type(**members: Any) -> dict[str, Any]:
    """Return the default document with one type more, or with members of ``user_id`` changed."""
    document = RULES.document()
    document["types"]["loyalty_no"] = members
    return document


@pytest.mark.parametrize(
    ("change", "path", "hint"),
    [
        ({"shared_device": "nobody"}, "/shared_device", "last_authenticated"),
        ({"rebind_after": "soon"}, "/rebind_after", "180d"),
        ({"rebind_after": 180}, "/rebind_after", "180d"),
        ({"rebind_after": "101y"}, "/rebind_after", "100y"),
        ({"country": "XX"}, "/country", "CN, GB"),
        ({"hotlimit": 3}, "/hotlimit", "'hot_limit'"),
        ({"hot_limit": "7"}, "/hot_limit", "integer"),
        ({"hot_limit": True}, "/hot_limit", "integer"),
        ({"types": None}, "/types", "dictionary"),
        ({"types": {"id": {}}}, "/types/id", "profile ids"),
        ({"types": {"a b": {}}}, "/types/a b", "without spaces"),
        ({"types": {"a:b": {}}}, "/types/a:b", "colons"),
    ],
)
def test_a_wrong_member_of_the_document_is_named_with_what_to_write(
    change: dict[str, Any], path: str, hint: str
) -> None:
    with pytest.raises(Unprocessable) as refused:
        read_document({**RULES.document(), **change})
    assert refused.value.details["path"] == path
    assert hint in refused.value.message


@pytest.mark.parametrize(
    ("members", "path", "hint"),
    [
        ({"priority": "high"}, "priority", "integer"),
        ({"priority": -1}, "priority", "greater than or equal to 0"),
        ({"unique": "yes"}, "unique", "boolean"),
        ({"uniqe": True}, "uniqe", "'unique'"),
        ({"limit": 0}, "limit", "greater"),
        ({"limit": 3, "unique": True}, "limit", "leave the limit out"),
        ({"window": "5d"}, "window", "limit too"),
        ({"limit": 5, "window": "5 days"}, "window", "180d"),
        ({"normalise": "Email"}, "normalise", "'email'"),
        ({"normalise": "sha256"}, "normalise", "email_sha256"),
        ({"scope": "brand"}, "scope", "'app' or 'system'"),
        ({"scope": "app", "class": "contact"}, "scope", "null"),
        ({"class": "weak"}, "class", "'strong'"),
        ({"hot_limit": 1}, "hot_limit", "greater"),
        ({"blocked": "null"}, "blocked", "tuple"),
        ({"blocked": ["x", " "]}, "blocked/1", "empty"),
        ({"blocked": ["x", 5]}, "blocked/1", "string"),
        ({"blocked": ["x" * 513]}, "blocked/0", "512"),
        ({"blocked_patterns": ["("]}, "blocked_patterns/0", "RE2"),
        ({"blocked_patterns": ["^a", "(?=b)"]}, "blocked_patterns/1", "look-around"),
        ({"blocked_patterns": [".*"]}, "blocked_patterns/0", "every value"),
        ({"blocked_patterns": ["x" * 501]}, "blocked_patterns/0", "500"),
        ({"blocked_patterns": ["(a{999}){999}"]}, "blocked_patterns/0", "too large"),
    ],
)
def test_a_wrong_member_of_a_type_is_named_with_what_to_write(
    members: dict[str, Any], path: str, hint: str
) -> None:
    with pytest.raises(Unprocessable) as refused:
        read_document(with_type(**members))
    assert refused.value.details["path"] == f"/types/loyalty_no/{path}"
    assert hint in refused.value.message


def test_rules_survive_the_way_to_json_and_back() -> None:
    document = RULES.document()
    assert document["types"]["user_id"]["unique"] is True
    assert document["types"]["email"]["class"] == "contact"
    assert document["rebind_after"] == "180d"
    assert read_document(document) == RULES


def test_a_type_that_does_not_say_what_it_is_is_what_it_is_by_default() -> None:
    rules = read_document({"types": {"email": {}, "idfa": {"limit": 9}, "mine": {}}, "version": 1})
    assert rules.rule_of("email").strength == "contact"
    assert rules.rule_of("email").normalise == "email"
    assert (rules.rule_of("idfa").strength, rules.rule_of("idfa").priority) == ("ephemeral", 92)
    assert (rules.rule_of("mine").strength, rules.rule_of("mine").priority) == ("strong", 60)


def test_a_document_that_an_older_version_let_in_stays_readable() -> None:
    old = with_type(blocked_patterns=[r"^\+?(\d)\1+$"])
    with pytest.raises(Unprocessable):
        read_document(old)
    assert normalise("loyalty_no", "7777", parse_rules(old)) is None
    assert normalise("loyalty_no", "7778", parse_rules(old)) == "7778"


def test_the_shape_of_a_document_holds_for_stored_ones_too() -> None:
    with pytest.raises(ValidationError, match="hotlimit"):
        parse_rules({**RULES.document(), "hotlimit": 3})


def test_a_pattern_is_looked_for_anywhere_and_without_case() -> None:
    rules = parse_rules(with_type(blocked_patterns=["^TEST-", "dummy"]))
    assert normalise("loyalty_no", "test-1", rules) is None
    assert normalise("loyalty_no", "my-Dummy", rules) is None
    assert normalise("loyalty_no", "a-test-1", rules) == "a-test-1"


def test_a_pattern_made_to_take_for_ever_is_done_at_once() -> None:
    matches = compile_pattern("^(a+)+$")
    assert not matches("a" * 512 + "b")


def test_a_type_may_have_a_limit_of_its_own_for_what_is_hot() -> None:
    rules: Rules = parse_rules({**with_type(hot_limit=2), "hot_limit": 7})
    assert rules.hot_limit_of("loyalty_no") == 2
    assert rules.hot_limit_of("email") == 7
    seen = [
        saw(f"user_id:u{n} {word}", n) for n in range(3) for word in ("loyalty_no:1", "crm_id:k")
    ]
    assert World(*seen, rules=rules).refused() >= {
        (f"user_id:u{n}", "loyalty_no:1", "hot_identifier") for n in range(3)
    }
    assert World(*seen, rules=rules).owner("crm_id:k") == "user_id:u0"
