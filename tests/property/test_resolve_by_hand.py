"""Decisions by hand are facts like others: the result is a function of the set of them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.facts import LinkKind
from cdp.identity.resolve import resolve
from cdp.identity.rules import default_rules
from cdp.model import Identifier, Observation
from tests.property.test_resolve import identifiers, observations
from tests.support.identity_world import Decision, World

_RULES = default_rules("CN").model_copy(update={"hot_limit": 3})
_KINDS: tuple[LinkKind, ...] = ("merge", "exception", "parted", "detached")


@st.composite
def decisions(draw: st.DrawFn, seen: list[Observation]) -> list[Decision]:
    """Up to four decisions about identifiers that were seen, each at a moment of its own."""
    known = sorted({str(name) for one in seen for name in one.identifiers})
    if len(known) < 2:
        return []
    made = draw(
        st.lists(
            st.tuples(
                st.sampled_from(_KINDS),
                st.lists(st.sampled_from(known), min_size=2, max_size=3, unique=True),
            ),
            max_size=4,
        )
    )
    return [(kind, " ".join(names), 800 + day) for day, (kind, names) in enumerate(made)]


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Observation], list[Decision]]:
    """Events, and what was decided after them."""
    seen = draw(observations())
    return seen, draw(decisions(seen))


@given(stories(), st.randoms(use_true_random=False), st.sets(identifiers, max_size=2))
def test_the_order_of_facts_and_decisions_does_not_matter(
    story: tuple[list[Observation], list[Decision]], random: object, blocked: set[str]
) -> None:
    seen, decided = story
    blocks = frozenset(Identifier(*name.split(":", 1)) for name in blocked)
    rules = _RULES.with_blocks(blocks)
    world = World(*seen, rules=rules, decided=decided)
    links, nodes = list(world.links), list(world.nodes.values())
    random.shuffle(links)  # type: ignore[attr-defined]
    random.shuffle(nodes)  # type: ignore[attr-defined]
    again = resolve(nodes, links, rules)
    assert again.assignments == world.resolution.assignments
    assert again.joined_at == world.resolution.joined_at
    assert set(again.refusals) == set(world.resolution.refusals)


@given(stories())
def test_whoever_was_parted_last_is_not_one_person(
    story: tuple[list[Observation], list[Decision]],
) -> None:
    seen, decided = story
    world = World(*seen, rules=_RULES, decided=decided)
    merged_later = False
    for kind, text, _ in reversed(decided):
        if kind in ("merge", "exception"):
            merged_later = True
        if merged_later or kind not in ("parted", "detached"):
            continue
        owners = [world.owner(name) for name in text.split()]
        if kind == "detached":
            assert owners[0] not in owners[1:]
        else:
            assert len(set(owners)) == len(owners)


@given(observations(), st.sets(identifiers, min_size=1, max_size=2))
def test_a_blocked_identifier_stands_alone_and_ties_nobody(
    seen: list[Observation], blocked: set[str]
) -> None:
    blocks = frozenset(Identifier(*name.split(":", 1)) for name in blocked)
    world = World(*seen, rules=_RULES.with_blocks(blocks))
    profiles = [world.owner(str(name)) for name in world.ids]
    for name in blocks & world.ids.keys():
        assert profiles.count(world.owner(str(name))) == 1


@given(stories())
def test_time_spans_cover_all_time_once_whatever_was_decided(
    story: tuple[list[Observation], list[Decision]],
) -> None:
    seen, decided = story
    world = World(*seen, rules=_RULES, decided=decided)
    for parts in world.resolution.assignments.values():
        assert parts[0].since is None
        assert parts[-1].until is None
        assert all(before.until == after.since for before, after in pairwise(parts))
