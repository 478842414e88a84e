"""The partition is a function of the set of facts, whatever the graph."""

from __future__ import annotations

from itertools import pairwise

import networkx
from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.rules import Rules, default_rules
from cdp.model import Observation
from tests.support.identity_world import World, build_facts, saw

_RULES: Rules = default_rules("CN").model_copy(update={"hot_limit": 3})

# Few values of each type, so that they clash; days far apart, so that contacts move.
identifiers = st.sampled_from(
    [f"user_id:n{n}" for n in range(4)]
    + [f"crm_id:n{n}" for n in range(3)]
    + [f"wechat_unionid:n{n}" for n in range(2)]
    + [f"email:n{n}@x" for n in range(4)]
    + [f"phone:+861380013800{n}" for n in range(2)]
    + [f"anonymous_id:n{n}" for n in range(4)]
    + [f"device_id:n{n}" for n in range(3)]
)


@st.composite
def observations(draw: st.DrawFn, size: int = 25) -> list[Observation]:
    """Events with one to three identifiers over two years, some from browsers."""
    events = draw(
        st.lists(
            st.tuples(
                st.lists(identifiers, min_size=1, max_size=3, unique=True),
                st.integers(0, 730),
                st.booleans(),
            ),
            min_size=1,
            max_size=size,
        )
    )
    return [
        saw(" ".join(names), day, message=f"m{number}", public=public)
        for number, (names, day, public) in enumerate(events)
    ]


def told(world: World) -> object:
    """Return everything a resolution says, told by identifiers."""

    def name(node_id: int) -> str:
        return f"{world.nodes[node_id].type}:{world.nodes[node_id].value}"

    return (
        {
            name(node_id): [
                (part.since, part.until, name(part.profile.node_id), part.profile.shared)
                for part in parts
            ]
            for node_id, parts in world.resolution.assignments.items()
        },
        {(name(key[0]), key[1]): at for key, at in world.resolution.joined_at.items()},
        {(name(r.strong), name(r.weak), r.reason, r.at) for r in world.resolution.refusals},
    )


@given(observations(), st.randoms(use_true_random=False))
def test_order_and_duplicates_of_arrival_do_not_matter(
    seen: list[Observation], random: object
) -> None:
    again = seen + seen[: len(seen) // 2]
    random.shuffle(again)  # type: ignore[attr-defined]
    assert told(World(*again, rules=_RULES)) == told(World(*seen, rules=_RULES))


@given(observations(40))
def test_no_profile_ever_holds_two_values_of_a_unique_type(seen: list[Observation]) -> None:
    world = World(*seen, rules=_RULES)
    held: dict[tuple[object, str], set[str]] = {}
    for node_id, parts in world.resolution.assignments.items():
        node = world.nodes[node_id]
        for part in parts:
            if _RULES.rule_of(node.type).unique:
                held.setdefault((part.profile, node.type), set()).add(node.value)
    assert all(len(values) == 1 for values in held.values())


@given(observations())
def test_every_moment_of_an_identifier_belongs_to_exactly_one_live_profile(
    seen: list[Observation],
) -> None:
    resolution = World(*seen, rules=_RULES).resolution
    for parts in resolution.assignments.values():
        assert parts[0].since is None
        assert parts[-1].until is None
        for before, after in pairwise(parts):
            assert before.until == after.since
            assert before.profile != after.profile
        for part in parts:
            naming = part.profile
            if not naming.shared:
                assert resolution.assignments[naming.node_id][0].profile == naming


@given(observations(40))
def test_identifiers_of_one_profile_are_tied_by_a_path_of_joins(seen: list[Observation]) -> None:
    world = World(*seen, rules=_RULES)
    graph = networkx.Graph()
    graph.add_nodes_from(world.nodes)
    graph.add_edges_from((join.strong, join.weak) for join in world.resolution.joins)
    members: dict[object, set[int]] = {}
    for node_id, parts in world.resolution.assignments.items():
        members.setdefault(parts[0].profile, set()).add(node_id)
    for group in members.values():
        assert group <= networkx.node_connected_component(graph, min(group))


@given(observations(40))
def test_every_link_that_is_not_followed_is_a_refusal_with_a_reason(
    seen: list[Observation],
) -> None:
    world = World(*seen, rules=_RULES)
    refused = {(refusal.link_id, refusal.weak) for refusal in world.resolution.refusals}
    moved = {n for n, parts in world.resolution.assignments.items() if len(parts) > 1}
    for link in world.links:
        homes = {world.resolution.assignments[n][0].profile for n in link.node_ids}
        if len(homes) > 1 and moved.isdisjoint(link.node_ids):
            assert any((link.link_id, node_id) in refused for node_id in link.node_ids)


@given(observations(60))
def test_without_rules_people_are_the_connected_components(seen: list[Observation]) -> None:
    free = Rules.model_validate(
        {"types": {"*": {"priority": 10, "class": "strong"}}, "hot_limit": 10_000}
    )
    trusted = [Observation(s.identifiers, s.at, s.message_id, s.source_number, True) for s in seen]
    world = World(*trusted, rules=free)
    graph = networkx.Graph()
    graph.add_nodes_from(world.nodes)
    for link in world.links:
        networkx.add_path(graph, link.node_ids)
    wanted = {frozenset(component) for component in networkx.connected_components(graph)}
    found: dict[object, set[int]] = {}
    for node_id, parts in world.resolution.assignments.items():
        found.setdefault(parts[-1].profile, set()).add(node_id)
    assert {frozenset(group) for group in found.values()} == wanted
    assert not world.resolution.refusals


@given(observations())
def test_a_profile_is_named_by_its_oldest_identifier(seen: list[Observation]) -> None:
    world = World(*seen, rules=_RULES)
    for node_id, parts in world.resolution.assignments.items():
        naming = parts[0].profile.node_id
        assert world.nodes[naming].first_seen <= world.nodes[node_id].first_seen


@given(observations(), observations())
def test_facts_of_other_people_change_nothing(
    ours: list[Observation], theirs: list[Observation]
) -> None:
    alone = told(World(*ours, rules=_RULES))
    renamed = [
        Observation(
            tuple(i._replace(value=f"z{i.value}") for i in s.identifiers),
            s.at, f"z{s.message_id}", s.source_number, s.trusted,
        )
        for s in theirs
    ]  # fmt: skip
    nodes, _ = build_facts(ours)
    together = World(*ours, *renamed, rules=_RULES)
    spans, _, _ = told(together)  # type: ignore[misc]
    ours_only = {f"{n.type}:{n.value}" for n in nodes.values()}
    assert {key: value for key, value in spans.items() if key in ours_only} == alone[0]  # type: ignore[index]
