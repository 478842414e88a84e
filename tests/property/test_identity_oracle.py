"""The resolver against a second one that was written from the specification alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.identity.rules import Rules, default_rules, parse_rules
from cdp.model import Identifier, Observation
from tests.support.identity_oracle import Place, Verdict, judge
from tests.support.identity_world import START, Decision, World, saw

NAMES = (
    [f"user_id:n{n}" for n in range(3)]
    + [f"crm_id:n{n}" for n in range(3)]
    + [f"wechat_unionid:n{n}" for n in range(2)]
    + [f"email:n{n}@x" for n in range(3)]
    + [f"phone:+861380013800{n}" for n in range(2)]
    + [f"anonymous_id:n{n}" for n in range(4)]
    + [f"device_id:n{n}" for n in range(3)]
)
_KINDS = ("merge", "exception", "parted", "detached")


def _change(base: Rules, types: dict[str, dict[str, Any]], **members: Any) -> Rules:
    document = base.document()
    for name, values in types.items():
        document["types"][name] = {**document["types"][name], **values}
    return parse_rules({**document, **members})


_DEFAULT = default_rules("CN")
RULES = {
    "defaults": _DEFAULT,
    "soon hot": _change(_DEFAULT, {}, hot_limit=2),
    "soon idle": _change(_DEFAULT, {}, rebind_after="20d"),
    "narrow limits": _change(
        _DEFAULT,
        {
            "anonymous_id": {"limit": 2, "window": "30d"},
            "device_id": {"limit": 1},
            "email": {"limit": 1},
            "crm_id": {"unique": False, "limit": 2},
        },
        rebind_after="60d",
    ),
    "other priorities": _change(
        _DEFAULT,
        {
            "phone": {"priority": 5, "unique": True},
            "wechat_unionid": {"unique": True},
            "user_id": {"unique": False},
            "device_id": {"priority": 15},
        },
        hot_limit=3,
    ),
    "some blocked": _change(
        _DEFAULT,
        {"crm_id": {"blocked": ["n1"]}, "email": {"blocked_patterns": ["^n0"]}},
        hot_limit=2,
        rebind_after="40d",
    ).with_blocks(frozenset({Identifier("device_id", "n0")})),
}


def told(world: World) -> Verdict:
    """Put what the resolver says in the oracle's words."""
    resolution, nodes = world.resolution, world.nodes

    def name(node_id: int) -> Identifier:
        return Identifier(nodes[node_id].type, nodes[node_id].value)

    spans = {
        name(node_id): [
            (part.since, part.until, Place(name(part.profile.node_id), part.profile.shared))
            for part in parts
        ]
        for node_id, parts in resolution.assignments.items()
    }
    refusals: set[Any] = {
        (name(one.strong), name(one.weak), one.reason, one.at) for one in resolution.refusals
    }
    return Verdict(spans, refusals, {name(node_id) for node_id in resolution.hot})


def compare(seen: list[Observation], decided: list[Decision], rules: Rules) -> None:
    """Fail when the resolver and the oracle see other people, refusals or hot identifiers."""
    world = World(*seen, rules=rules, decided=decided)
    by_hand = [
        (
            kind,
            tuple(Identifier(*word.split(":", 1)) for word in text.split()),
            START + timedelta(days=day),
            f"by hand {number}",
        )
        for number, (kind, text, day) in enumerate(decided, len(world.links) - len(decided) + 1)
    ]
    ours, theirs = told(world), judge(seen, rules, by_hand)
    assert ours.spans == theirs.spans
    assert ours.refusals == theirs.refusals
    assert ours.hot == theirs.hot


_days = st.one_of(st.integers(0, 8), st.integers(0, 400))
_events = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        _days,
        st.booleans(),
        st.sampled_from([0, 0, 3, 30]),
    ),
    min_size=1,
    max_size=14,
)
_decided = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(0, 420), st.integers(0), st.integers(0)),
    max_size=2,
)


def _observe(events: list[tuple[list[str], int, bool, int]]) -> list[Observation]:
    return [
        saw(" ".join(names), day, message=f"m{n}", public=public, received=day + late)
        for n, (names, day, public, late) in enumerate(events)
    ]


def _decide(seen: list[Observation], drawn: list[tuple[Any, int, int, int]]) -> Iterator[Decision]:
    known = sorted({str(name) for one in seen for name in one.identifiers})
    for kind, day, first, second in drawn:
        chosen = {known[first % len(known)], known[second % len(known)]}
        if len(chosen) == 2:
            yield kind, " ".join(sorted(chosen)), day + 0.5


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(RULES)), _events, _decided)
def test_whatever_was_seen_and_decided_the_resolver_says_what_the_specification_says(
    rules: str, events: list[tuple[list[str], int, bool, int]], drawn: list[Any]
) -> None:
    seen = _observe(events)
    compare(seen, list(_decide(seen, drawn)), RULES[rules])


@pytest.mark.parametrize("rules", sorted(RULES))
def test_hundreds_of_random_worlds_are_as_the_specification_says(rules: str) -> None:
    dice = random.Random(rules)
    for _ in range(500):
        few = dice.sample(NAMES, dice.randint(4, len(NAMES)))
        events = [
            (
                dice.sample(few, dice.choice((1, 2, 2, 3, 3, 4))),
                dice.choice((dice.randint(0, 8), dice.randint(0, 400))),
                dice.random() < 0.3,
                dice.choice((0, 0, 3, 30)),
            )
            for _ in range(dice.randint(2, 20))
        ]
        seen = _observe(events + dice.choices(events, k=dice.randint(0, 3)))
        decided = [
            (dice.choice(_KINDS), dice.randint(0, 420), dice.randint(0, 99), dice.randint(0, 99))
            for _ in range(dice.choice((0, 0, 1, 2)))
        ]
        compare(seen, list(_decide(seen, decided)), RULES[rules])
