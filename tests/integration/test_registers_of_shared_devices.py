"""What is said of a device hangs on whose it is then: nobody hides what another had said before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cdp.identity.rules import default_rules
from cdp.model import Identifier
from cdp.profiles.consent import join_consents
from cdp.profiles.profile_store import find_people, read_people
from cdp.profiles.traits import join_traits
from cdp.storage.database import driver
from tests.support.identity_lab import BEGINNING, Lab
from tests.support.postgres import PostgresServer
from tests.support.wire import RECEIVED_AT, identify, track

DEVICE = {"anonymousId": "c"}
SESSIONS = default_rules("CN").model_copy(update={"shared_device": "last_authenticated"})


@pytest.fixture
def lab(postgres_server: PostgresServer) -> Iterator[Lab]:
    with postgres_server.fresh_url() as url:
        lab = Lab(url, default_rules("CN"), workers=1)
        yield lab
        lab.close()


def _at(hours: float) -> Any:
    return BEGINNING + timedelta(hours=hours)


def _say(hours: float, name: str | None, granted: bool, **who: str) -> dict[str, Any]:
    return identify(
        f"m{hours}",
        at=_at(hours),
        traits={"name": name, f"at{hours:g}": True},
        context={"consent": {"categoryPreferences": {"ads": granted}}},
        **who,
    )


STORY = [
    _say(1, "Ann", False, **DEVICE),
    track("In", "m2", at=_at(2), userId="a", **DEVICE),
    track("In", "m3", at=_at(3), userId="b", **DEVICE),
    _say(4, "Bob", True, **DEVICE),
]


def _know(lab: Lab, *asked: str) -> list[tuple[Any, Any]]:
    """Return of each the name and whether ads are granted."""
    with lab.database.transaction() as connection:
        tx = driver(connection)
        names = [Identifier(*one.split(":", 1)) for one in asked]
        found = [one.profile_no if one else 0 for one in find_people(tx, names)]
        people = read_people(tx, found)
    told = []
    for number in found:
        traits = join_traits(people[number].registers)
        consents = join_consents(people[number].statements, None, RECEIVED_AT)
        name, ads = traits.get("name"), consents.get("ads")
        told.append((name and name.value, ads and ads.granted))
    return told


def test_what_a_shared_device_says_alone_leaves_what_its_first_person_said(lab: Lab) -> None:
    for event in STORY:
        lab.post_events([event])
        lab.settle()
    assert _know(lab, "user_id:a", "anonymous_id:c") == [("Ann", False), ("Bob", True)]


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (3, 0, 2, 1), (1, 3, 2, 0), (2, 3, 0, 1)])
def test_it_is_so_in_whatever_order_it_is_told(lab: Lab, order: tuple[int, ...]) -> None:
    for position in order:
        lab.post_events([STORY[position]])
        lab.settle()
    assert _know(lab, "user_id:a", "anonymous_id:c") == [("Ann", False), ("Bob", True)]
    slots = lab.ask("SELECT count(*) FROM traits WHERE name = 'name'")
    assert slots == [(2,)]


def test_it_is_so_within_one_batch(lab: Lab) -> None:
    lab.post_events(STORY)
    lab.settle()
    assert _know(lab, "user_id:a", "anonymous_id:c") == [("Ann", False), ("Bob", True)]


def test_a_person_parted_from_a_device_by_hand_and_back_keeps_what_was_said(lab: Lab) -> None:
    lab.post_events(STORY)
    lab.settle()
    before = _know(lab, "user_id:a", "anonymous_id:c")
    names = [Identifier("user_id", "a"), Identifier("user_id", "b")]
    made = lab.decide(lambda hand: hand.merge(names, allow_unique_conflict=True))
    assert _know(lab, "user_id:a")[0] == ("Bob", True)
    lab.post_events([_say(5, "Cid", False, **DEVICE)])
    lab.settle()
    lab.decide(lambda hand: hand.undo(made.decision_id))
    assert _know(lab, "user_id:a", "anonymous_id:c") == [before[0], ("Cid", False)]


def test_each_person_of_a_session_keeps_what_was_said_in_it(
    postgres_server: PostgresServer,
) -> None:
    with postgres_server.fresh_url() as url:
        lab = Lab(url, SESSIONS, workers=1)
        try:
            lab.post_events([*STORY[:3], _say(3.2, "Bo", True, **DEVICE), STORY[3]])
            lab.settle()
            lab.post_events([track("In", "m6", at=_at(6), userId="a", **DEVICE)])
            lab.post_events([_say(6.2, "Anna", True, **DEVICE)])
            lab.settle()
            lab.post_events([_say(7, "Cid", False, **DEVICE)])
            lab.settle()
            assert _know(lab, "user_id:a", "user_id:b", "anonymous_id:c") == [
                ("Anna", True), ("Bo", True), ("Cid", False)]  # fmt: skip
        finally:
            lab.close()
