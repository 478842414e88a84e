"""People who are new with all that is known of them are what the replay would make of them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.components_store import group_nodes
from cdp.identity.facts import LinkFact, Node, ProfileKey
from cdp.identity.newcomers import Newcomers, find_newcomers
from cdp.identity.nodes_store import FreshNode
from cdp.identity.recompute import COMPONENT_CAP
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules, default_rules
from cdp.identity.sightings import LinkSighting, sum_links, sum_up
from cdp.model import Identifier, Observation
from tests.support.identity_world import RULES, saw

_BLOCKING = RULES.with_blocks(frozenset([Identifier("email", "a@x")]))
_STRICT = RULES.model_copy(update={"hot_limit": 1})

_names = st.sampled_from(
    ["user_id:a", "user_id:b", "crm_id:a", "crm_id:till/a", "email:a@x", "email:b@x",
     "email_sha256:" + "a" * 64, "phone:+8613800138000", "anonymous_id:a", "anonymous_id:b",
     "device_id:a", "idfa:0000", "other:x"]
)  # fmt: skip
_observations = st.lists(
    st.builds(
        lambda names, day, public: saw(" ".join(names), day, public=public),
        st.lists(_names, min_size=1, max_size=4, unique=True),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def _find(
    observations: Sequence[Observation],
    rules: Rules,
    *,
    known: frozenset[int] = frozenset(),
    entangled: frozenset[int] = frozenset(),
    cap: int = COMPONENT_CAP,
) -> Newcomers:
    seen = sum_up(observations)
    ids = {name: number for number, name in enumerate(seen.nodes, 1)}
    links = sum_links(seen.groups, ids)
    labels = group_nodes([key[1] for key in links], {})
    fresh = {
        n: FreshNode(n, name, f"prf_{n}", labels.get(n, n), seen.nodes[name])
        for name, n in ids.items()
        if n not in known
    }
    return find_newcomers(fresh, links, entangled, rules, cap)


@given(
    _observations,
    st.sampled_from([RULES, _BLOCKING, _STRICT, default_rules("GB")]),
    st.frozensets(st.integers(1, 6), max_size=2),
    st.frozensets(st.integers(1, 6), max_size=1),
)
def test_newcomers_are_settled_as_the_replay_would_settle_them(
    observations: list[Observation],
    rules: Rules,
    known: frozenset[int],
    entangled: frozenset[int],
) -> None:
    found = _find(observations, rules, known=known, entangled=entangled)

    left = {node_id for key in found.new_links for node_id in key[1]}
    for person in found.people:
        members = {node.node_id for node in person.nodes}
        nodes = [Node(one.node_id, *one.identifier, one.sighting.first) for one in person.nodes]
        links = [] if person.link is None else [_make_fact(person.link)]
        replayed = resolve(nodes, links, rules)
        key = ProfileKey(person.owner.node_id)
        assert replayed.joined_at == {key: person.joined_at}
        assert not replayed.refusals
        assert {
            node_id: [(part.since, part.until, part.profile) for part in parts]
            for node_id, parts in replayed.assignments.items()
        } == {node_id: [(None, None, key)] for node_id in members}
        assert members.isdisjoint(left | known | entangled | found.fresh.keys())


@given(_observations)
def test_nothing_that_is_new_gets_lost(observations: list[Observation]) -> None:
    found = _find(observations, RULES)
    seen = sum_up(observations)
    ids = {name: number for number, name in enumerate(seen.nodes, 1)}
    links = [person.link for person in found.people if person.link is not None]
    keys = {(link.trusted, link.node_ids) for link in links}
    nodes = [node.node_id for person in found.people for node in person.nodes]
    assert keys | found.new_links.keys() == sum_links(seen.groups, ids).keys()
    assert sorted([*nodes, *found.fresh]) == sorted(ids.values())


def test_two_identifiers_seen_together_and_one_alone_are_newcomers() -> None:
    found = _find([saw("user_id:a anonymous_id:a", 1), saw("device_id:a", 2)], RULES)
    assert [len(person.nodes) for person in found.people] == [2, 1]
    assert not found.fresh
    assert not found.new_links


def test_under_a_cap_of_one_identifier_nobody_joins() -> None:
    assert not _find([saw("user_id:a anonymous_id:a", 1)], RULES, cap=1).people


def _make_fact(link: LinkSighting) -> LinkFact:
    return LinkFact(1, link.trusted, link.node_ids, link.first_at, link.message_id, ())
