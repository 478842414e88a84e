"""The lives of identifiers that go wrong elsewhere, through the door, the log and two workers.

``tests/unit/test_identity_scenarios.py`` says where else each is proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cdp.erase_people import erase
from cdp.identity.facts import LinkKind
from cdp.model import Identifier
from cdp.runtime.clock import format_time, now
from cdp.storage.database import driver
from tests.support.identity_scenarios import SCENARIOS, Scenario
from tests.support.identity_wire import IdentityWire, run_identity_wire
from tests.support.postgres import PostgresServer

_VERBS: dict[LinkKind, tuple[str, dict[str, bool]]] = {
    "merge": ("merge", {}),
    "exception": ("merge", {"allow_unique_conflict": True}),
}


@pytest.fixture(scope="module")
def wire(postgres_server: PostgresServer) -> Iterator[IdentityWire]:
    with run_identity_wire(postgres_server) as wire:
        yield wire


def _decide(wire: IdentityWire, scenario: Scenario) -> None:
    for kind, text in scenario.decided:
        verb, more = _VERBS[kind]
        names = [scenario.name(word) for word in text.split()]
        decision_id = wire.decide(verb, names, **more)
        if scenario.undone:
            together = wire.lookup(names)
            assert len(set(together.values())) == 1
            wire.undo(decision_id)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_story_ends_as_it_should(wire: IdentityWire, scenario: Scenario) -> None:
    wire.tell(scenario)
    _decide(wire, scenario)
    groups = scenario.groups()
    found = wire.lookup([name for group in groups for name in group])
    profiles = {group: {found[name] for name in group} for group in groups}
    assert all(len(ids) == 1 for ids in profiles.values())
    assert len(set(found.values())) == len(groups)
    for group, events in groups.items():
        profile = wire.read(min(group))
        listed = {Identifier(one["type"], one["value"]) for one in profile["identifiers"]}
        assert listed == group
        assert (profile["events"], wire.count_events(profile["id"])) == (events, events)
    ours = {str(name) for group in groups for name in group}
    refused = {row["reason"] for row in wire.list_refused() if {row["a"], row["b"]} <= ours}
    assert refused == scenario.refused


def _post(wire: IdentityWire, message: str, **members: Any) -> None:
    event = {"type": "track", "event": "Seen", "messageId": message, **members}
    wire.post([event])
    wire.wait()


def test_the_ids_of_absorbed_people_lead_straight_to_the_last_one(wire: IdentityWire) -> None:
    issued = []
    for number in (3, 2, 1):
        at = f"2026-01-0{number}T00:00:00Z"
        _post(wire, f"hop-{number}", timestamp=at, anonymousId=f"hop-{number}")
        issued.append(wire.read(f"anonymous_id:hop-{number}")["id"])
    for number in (3, 2):
        _post(
            wire, f"hop-join-{number}", type="alias", timestamp=f"2026-02-0{number}T00:00:00Z",
            anonymousId=f"hop-{number}", previousId=f"hop-{number - 1}",
        )  # fmt: skip
    assert len(set(issued)) == 3
    for old in issued:
        profile = wire.read(f"id:{old}")
        assert profile["id"] == issued[-1]
        assert profile["redirected_from"] == (None if old == issued[-1] else old)


def test_an_email_on_two_users_shows_who_else_claims_it(wire: IdentityWire) -> None:
    for user in ("claim-a", "claim-b"):
        _post(wire, user, userId=user, context={"traits": {"email": "claim@x.cn"}})
    holder, claimant = wire.read("email:claim@x.cn"), wire.read("user_id:claim-b")
    email = next(one for one in holder["identifiers"] if one["type"] == "email")
    assert email["also_claimed_by"] == [claimant["id"]]
    assert claimant["traits"]["email"] == "claim@x.cn"


def _erase(wire: IdentityWire, name: Identifier) -> None:
    with wire.stack.database.transaction() as connection:
        erase(driver(connection), [name], country="CN", currency="CNY", now=now())


def test_21_an_erased_person_who_is_seen_again_is_somebody_new_without_a_history(
    wire: IdentityWire,
) -> None:
    at = format_time(now() - timedelta(days=3))
    context = {"traits": {"city": "上海"}}
    _post(wire, "erased-1", timestamp=at, userId="erased", anonymousId="er", context=context)
    before = wire.read("user_id:erased")
    assert (before["events"], before["traits"]["city"]) == (1, "上海")
    _erase(wire, Identifier("user_id", "erased"))
    names = [Identifier("user_id", "erased"), Identifier("anonymous_id", "er")]
    assert not wire.lookup(names)
    _post(wire, "erased-2", timestamp=format_time(now()), userId="erased")
    after = wire.read("user_id:erased")
    assert (after["events"], after["traits"]) == (1, {})
    assert set(wire.lookup(names)) == {names[0]}


def test_22_what_an_erased_person_did_before_brings_nobody_back(wire: IdentityWire) -> None:
    at = format_time(now() - timedelta(days=3))
    _post(wire, "gone-1", timestamp=at, userId="gone")
    _erase(wire, Identifier("user_id", "gone"))
    _post(wire, "gone-1", timestamp=at, userId="gone")
    _post(wire, "gone-2", timestamp=format_time(now() - timedelta(hours=1)), userId="gone")
    assert not wire.lookup([Identifier("user_id", "gone")])
