"""When people became one: only those meet who had both been seen before."""

from __future__ import annotations

from datetime import datetime

import networkx
from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.facts import LinkFact, Node
from cdp.identity.rules import Rules
from cdp.reach import Statement, decide_consent
from tests.support.identity_world import START, World, saw

_FREE = Rules.model_validate(
    {"types": {"*": {"priority": 10, "class": "strong"}}, "hot_limit": 10_000}
)
_NAMES = st.sampled_from(
    [f"{kind}:n{n}" for kind in ("user_id", "email", "anonymous_id") for n in range(4)]
)
_HISTORIES = st.lists(
    st.tuples(st.lists(_NAMES, min_size=1, max_size=3, unique=True), st.integers(0, 12)),
    min_size=1,
    max_size=14,
)


def _build(history: list[tuple[list[str], int]], rules: Rules = _FREE) -> World:
    seen = [saw(" ".join(names), day, message=f"m{n}") for n, (names, day) in enumerate(history)]
    return World(*seen, rules=rules)


def _find_meetings(nodes: dict[int, Node], links: list[LinkFact]) -> dict[int, datetime]:
    """Return, by node, when its people met last: moment by moment, by connected components."""
    graph, met = networkx.Graph(), dict[int, datetime]()
    graph.add_nodes_from(nodes)
    for at in sorted({link.first_at for link in links}):
        before = [
            {n for n in group if nodes[n].first_seen < at}
            for group in networkx.connected_components(graph)
        ]
        for link in links:
            if link.first_at == at:
                networkx.add_path(graph, link.node_ids)
        for group in networkx.connected_components(graph):
            if sum(bool(people & group) for people in before) > 1:
                met.update(dict.fromkeys(group, at))
    return {
        node: max(met[other] for other in group & met.keys())
        for group in networkx.connected_components(graph)
        if group & met.keys()
        for node in group
    }


@given(_HISTORIES)
def test_people_met_when_the_last_two_with_a_past_became_one(
    history: list[tuple[list[str], int]],
) -> None:
    world = _build(history)
    met = _find_meetings(world.nodes, world.links)
    for node_id, parts in world.resolution.assignments.items():
        assert world.resolution.joined_at[parts[-1].profile] == met.get(node_id)


def test_who_refused_as_a_visitor_and_agreed_as_a_user_may_bring_new_devices() -> None:
    history = [
        (["anonymous_id:a"], 0),
        (["anonymous_id:a", "user_id:u"], 1),
        (["user_id:u"], 2),
        (["user_id:u", "device_id:d"], 3),
        (["user_id:u", "email:u@example.com"], 4),
    ]
    world = _build(history)
    (joined_at,) = set(world.resolution.joined_at.values())
    said = [
        Statement("marketing", is_granted, world.nodes[node].first_seen, "m", 1, node)
        for is_granted, node in ((False, 1), (True, 2))
    ]
    counted = decide_consent(said, joined_at, "marketing", max(one.at for one in said))
    assert counted is not None
    assert counted.granted


def test_a_visitor_with_a_past_who_turns_out_to_be_a_known_user_was_another() -> None:
    history = [(["user_id:u"], 0), (["device_id:d"], 1), (["user_id:u", "device_id:d"], 2)]
    world = _build(history)
    assert {(at - START).days for at in world.resolution.joined_at.values() if at} == {2}
