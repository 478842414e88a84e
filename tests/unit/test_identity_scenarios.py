"""The 28 lives of identifiers that go wrong elsewhere, by the replay alone.

Each is a story in ``tests/support/identity_scenarios.py``; ``tests/e2e/test_identity_scenarios.py``
sends the same stories through the door. What each goes into more deeply stands elsewhere:

- 1, 9, 13, 17 (login, late alias, late page view, three people at once): ``test_resolve``
- 2, 3, 4, 18 (devices of several people): ``test_resolve``, ``property/test_resolve``
- 5, 6, 7, 24, 25, 26 (contacts, households, guests): ``test_resolve``
- 8, 28 (values of too many people): ``test_resolve``, ``test_identifiers``
- 10, 27 (by hand): ``test_resolve_by_hand``, ``integration/test_identity_by_hand``
- 11, 12, 16 (at one moment, in one hop): ``property/test_identity_machine``
- 14, 15 (duplicates, oneself): ``property/test_identity_store``
- 19, 20 (spellings): ``test_identifiers``, ``integration/test_identity_trouble``
- 21, 22 (deletion): ``e2e/test_identity_scenarios``, ``integration/test_privacy``
- 23 (limits): ``test_resolve``, ``property/test_identity_oracle``
"""

from __future__ import annotations

import random

import pytest

from cdp.identity.facts import Assignment
from cdp.model import Observation
from tests.support.identity_scenarios import SCENARIOS, Scenario
from tests.support.identity_world import World


def _count_events(world: World, seen: list[Observation]) -> dict[frozenset[str], int]:
    """How many events each person has, by the identifiers that the person has in the end."""
    owned: dict[object, set[str]] = {}
    counts: dict[object, int] = {}
    for name, node_id in world.ids.items():
        profile = world.resolution.assignments[node_id][-1].profile
        owned.setdefault(profile, set()).add(str(name))
    for one in {seen.message_id: seen for seen in seen}.values():
        parts = world.resolution.assignments[world.ids[one.identifiers[0]]]
        profile = next(part for part in parts if _holds(part, one)).profile
        counts[profile] = counts.get(profile, 0) + 1
    return {frozenset(names): counts.get(profile, 0) for profile, names in owned.items()}


def _holds(part: Assignment, one: Observation) -> bool:
    return (part.since is None or part.since <= one.at) and (
        part.until is None or one.at < part.until
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_replay_ends_the_story_as_it_should(scenario: Scenario) -> None:
    seen = list(scenario.observe())
    world = World(*seen, decided=scenario.decisions())
    wanted = {
        frozenset(str(name) for name in names): events
        for names, events in scenario.groups().items()
    }
    assert _count_events(world, seen) == wanted
    assert {reason for _, _, reason in world.refused()} == scenario.refused


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_story_ends_so_in_any_order(scenario: Scenario) -> None:
    seen = list(scenario.observe())
    straight = World(*seen, decided=scenario.decisions())
    random.Random(scenario.number).shuffle(seen)
    shuffled = World(*seen, decided=scenario.decisions())
    assert shuffled.people() == straight.people()
    assert shuffled.refused() == straight.refused()


def test_no_scenario_is_forgotten() -> None:
    told = {scenario.number for scenario in SCENARIOS}
    assert told == set(range(1, 29)) - {21, 22}
