"""Whatever people did before: of who is deleted nothing is left, and nothing comes back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.storage.database import Database
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import RECEIVED_AT, append_events, identify, track

_PEOPLE = 4
_DEVICES = ("tablet-1", "tablet-2")
"""Several people use these."""


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    world = PrivacyWorld(database, tmp_path)
    yield world
    world.close()


def _live(chance: random.Random) -> list[dict[str, Any]]:
    """What everybody says and does: each value of a person has a mark that is theirs alone."""
    events: list[dict[str, Any]] = []
    for number in range(60):
        mark = f"mark{chance.randrange(_PEOPLE)}"
        at = RECEIVED_AT - timedelta(minutes=chance.randrange(1, 40_000))
        who = chance.choice(
            [
                {"userId": f"{mark}-user"},
                {"anonymousId": f"{mark}-phone"},
                {"userId": f"{mark}-user", "anonymousId": f"{mark}-phone"},
                {"userId": f"{mark}-user", "anonymousId": chance.choice(_DEVICES)},
            ]
        )
        message = f"m-{number}"
        say = chance.randrange(4)
        if say == 0 and "userId" in who:
            traits = {"email": f"{mark}@example.com", "city": f"{mark} city"}
            events.append(identify(message, at=at, **who, traits=traits))
        elif say == 1 and "userId" in who:
            consent = {"consent": {"categoryPreferences": {"ads": chance.random() < 0.5}}}
            events.append(track("Chose", message, at=at, **who, context=consent))
        elif say == 2 and "userId" in who:
            properties = {"order_id": f"{mark}-{number}", "total": 5, "currency": "CNY"}
            events.append(track("Order Completed", message, at=at, **who, properties=properties))
        else:
            # On a device of several people only a login tells whose it is.
            properties = {} if who.get("anonymousId") in _DEVICES else {"note": f"{mark} note"}
            events.append(track("Seen", message, at=at, **who, properties=properties))
    # Everybody is known, and their own phone is theirs.
    for one in range(_PEOPLE):
        mark = f"mark{one}"
        who = {"userId": f"{mark}-user", "anonymousId": f"{mark}-phone"}
        events.append(identify(f"own-{one}", at=RECEIVED_AT, **who, traits={"n": mark}))
    return events


def _send(world: PrivacyWorld, events: list[dict[str, Any]], chance: random.Random) -> None:
    while events:
        size = chance.randrange(1, 25)
        world.send(events[:size])
        events = events[size:]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_deletion_no_table_has_the_person_and_what_is_sent_again_restores_nothing(
    world: PrivacyWorld, seed: int
) -> None:
    chance = random.Random(seed)
    events = _live(chance)
    chance.shuffle(events)
    _send(world, events, chance)
    others = [f"mark{one}" for one in range(_PEOPLE)]
    gone = others.pop(chance.randrange(_PEOPLE))
    before = {mark: _read(world, mark) for mark in others}
    name = chance.choice(["-user", "-phone"])
    kind = {"-user": "user_id", "-phone": "anonymous_id"}[name]
    assert world.list_tables_with(f"{gone}-user")

    world.do("delete", f"{kind}:{gone}{name}")

    assert world.list_tables_with(gone) == set()
    assert {mark: _read(world, mark) for mark in others} == before
    chance.shuffle(events)
    _send(world, events, chance)
    assert world.find(f"user_id:{gone}-user") is None
    assert world.find(f"anonymous_id:{gone}-phone") is None
    assert {mark: _read(world, mark) for mark in others} == before

    later = datetime.now(UTC) + timedelta(seconds=1)
    append_events(
        world.log,
        world.source_id,
        [track("Back", "back", at=later, userId=f"{gone}-user")],
        received_at=later,
        request_id="back",
    )
    world.work()
    person = world.find(f"user_id:{gone}-user")
    assert person is not None
    assert (sum(node.events for node in person.nodes), person.registers) == (1, [])


def _read(world: PrivacyWorld, mark: str) -> tuple[Any, ...]:
    """What is held of a person, without their version."""
    person = world.find(f"user_id:{mark}-user")
    assert person is not None
    return (
        person.profile_id,
        sorted((node.type, node.value, node.events) for node in person.nodes),
        sorted(repr(one) for one in person.registers),
        sorted(repr(one) for one in person.statements),
        person.revenue,
    )
