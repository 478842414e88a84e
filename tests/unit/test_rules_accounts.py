"""Rules over accounts, in the reference meaning. Numbers are those of the design."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.segments.evaluate import MembershipFact, PersonFacts, TraitFact, evaluate, explain
from cdp.segments.parse import parse_rule

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRO = {"trait": "plan", "op": "eq", "value": "pro"}
LARGE = {"trait": "seats", "op": "gte", "value": 50}


def person(**accounts: dict[str, Any]) -> PersonFacts:
    """Return somebody who belongs to ``accounts``, by their traits."""
    return PersonFacts(
        memberships=[MembershipFact(name, True, NOW - HOUR) for name in accounts],
        accounts={
            name: [TraitFact(key, value, NOW - HOUR) for key, value in traits.items()]
            for name, traits in accounts.items()
        },
    )


def holds(document: dict[str, Any], someone: PersonFacts) -> bool:
    return evaluate(parse_rule(document), someone, NOW)


def test_any_of_the_accounts_satisfies_the_rule() -> None:
    assert holds({"account": PRO}, person(acme={"plan": "free"}, beta={"plan": "pro"}))
    assert not holds({"account": PRO}, person(acme={"plan": "free"}))
    assert not holds({"account": PRO}, person())


def test_one_account_satisfies_all_of_the_rule() -> None:
    both = {"account": {"all": [PRO, LARGE]}}
    assert not holds(both, person(acme={"plan": "pro"}, beta={"seats": 80}))
    assert holds(both, person(acme={"plan": "pro", "seats": 80}))


def test_22_a_not_inside_asks_for_an_account_of_which_the_rule_is_false() -> None:
    inside, outside = {"account": {"not": PRO}}, {"not": {"account": PRO}}
    mixed = person(acme={"plan": "pro"}, beta={})
    assert (holds(inside, mixed), holds(outside, mixed)) == (True, False)
    assert (holds(inside, person()), holds(outside, person())) == (False, True)


def test_the_persons_own_traits_are_not_the_accounts() -> None:
    own = PersonFacts(
        traits=[TraitFact("plan", "pro", NOW)],
        memberships=[MembershipFact("acme", True, NOW - HOUR)],
    )
    assert not holds({"account": PRO}, own)


@pytest.mark.parametrize(
    ("facts", "belongs"),
    [
        ([(True, -2), (False, -1)], False),
        ([(False, -2), (True, -1)], True),
        ([(True, -1), (False, 1)], True),
        ([(True, 1)], False),
    ],
    ids=["left", "came back", "leaves later", "comes later"],
)
def test_28_the_newest_statement_until_now_says_who_belongs(
    facts: list[tuple[bool, int]], belongs: bool
) -> None:
    someone = PersonFacts(
        memberships=[
            MembershipFact("acme", is_member, NOW + hours * HOUR) for is_member, hours in facts
        ]
    )
    assert holds({"account": {"all": []}}, someone) is belongs


def test_27_why_shows_an_account_that_decides() -> None:
    rule = parse_rule({"account": {"all": [PRO]}})
    assert explain(rule, person(acme={"plan": "free"}, beta={"plan": "pro"}), NOW) == {
        "account": {
            "all": [
                {"trait": "plan", "op": "eq", "expected": "pro", "value": "pro", "holds": True}
            ],
            "holds": True,
        },
        "account_id": "beta",
        "value": ["beta"],
        "holds": True,
    }
    refused = explain(rule, person(acme={"plan": "free"}), NOW)
    assert (refused["account_id"], refused["holds"]) == ("acme", False)
    assert refused["account"]["all"][0]["value"] == "free"
    nowhere = explain(rule, person(), NOW)
    assert (nowhere["account"], nowhere["holds"]) == ({"all": [PRO]}, False)
