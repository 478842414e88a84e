"""Who is who of everybody by columns is who is who of each by the replay."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.blocked_many import find_blocked
from cdp.identity.crowd import NEVER, Crowd, settle
from cdp.identity.facts import LinkFact, Node, ProfileKey
from cdp.identity.identifiers import is_blocked
from cdp.identity.rebuild_store import resolve_all
from cdp.identity.rules import Rules, parse_rules
from cdp.model import Identifier, Observation
from tests.support.identity_world import RULES, build_facts, saw

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRICT = RULES.model_copy(update={"hot_limit": 2})
_BLOCKING = RULES.with_blocks(frozenset([Identifier("email", "a@x")]))
_names = st.sampled_from(
    ["user_id:a", "user_id:b", "user_id:guest", "crm_id:a", "crm_id:till::a", "email:a@x",
     "email:b@x", "email_sha256:" + "a" * 64, "phone:+8613800138000", "phone:10086",
     "anonymous_id:a", "anonymous_id:b", "anonymous_id:c", "device_id:a", "idfa:0000", "other:x"]
)  # fmt: skip
_observations = st.lists(
    st.builds(
        lambda names, day, public: saw(" ".join(names), day, public=public),
        st.lists(_names, min_size=1, max_size=4, unique=True),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def _count(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _gather(nodes: Collection[Node], links: Collection[LinkFact]) -> Crowd:
    ends = [node_id for link in links for node_id in link.node_ids]
    return Crowd(
        np.array([node.node_id for node in nodes], dtype=np.int64),
        [node.type for node in nodes],
        [node.value for node in nodes],
        np.array([_count(node.first_seen) for node in nodes], dtype=np.int64),
        np.array([link.link_id for link in links], dtype=np.int64),
        np.array([link.kind == "seen" for link in links], dtype=np.bool_),
        np.array([link.trusted for link in links], dtype=np.bool_),
        np.array([_count(link.first_at) for link in links], dtype=np.int64),
        np.array(ends, dtype=np.int64),
        np.cumsum([0, *(len(link.node_ids) for link in links)]).astype(np.int64),
    )


def _list_people(crowd: Crowd, owners: Iterable[int]) -> dict[int, int]:
    ids = crowd.node_ids.tolist()
    return {ids[n]: ids[owner] for n, owner in enumerate(owners) if owner >= 0}


@given(
    _observations,
    st.sampled_from([RULES, _STRICT, _BLOCKING]),
    st.sampled_from(["seen", "merge", "detached"]),
    st.booleans(),
)
def test_what_is_settled_by_columns_is_what_the_replay_comes_to(
    observations: list[Observation], rules: Rules, kind: str, loses_a_node: bool
) -> None:
    nodes, links = build_facts(observations)
    links[:1] = [link._replace(kind=kind) for link in links[:1]]
    if loses_a_node and len(nodes) > 1:
        lost = max(nodes)
        del nodes[lost]
        links = [link for link in links if link.node_ids[0] != lost]
    crowd = _gather(sorted(nodes.values()), links)

    settled = settle(crowd, rules)

    people = _list_people(crowd, settled.owners.tolist())
    named = {link.link_id: link for link in links}
    rest = [named[number] for number in crowd.link_ids[settled.rest].tolist()]
    for link in rest:
        assert people.keys().isdisjoint(link.node_ids)
    if loses_a_node:
        return
    for found in resolve_all(dict(nodes), links, rules):
        for node_id in found.assignments.keys() & people.keys():
            (part,) = found.assignments[node_id]
            assert (part.since, part.until) == (None, None)
            assert part.profile == ProfileKey(people[node_id])
            assert not found.refusals
            position = crowd.node_ids.tolist().index(people[node_id])
            met = found.joined_at[part.profile]
            assert settled.joined_at[position] == (NEVER if met is None else _count(met))


def test_people_of_identifiers_of_different_types_seen_once_need_no_replay() -> None:
    nodes, links = build_facts(
        [
            saw("user_id:a anonymous_id:a", 0),
            saw("email:b@x anonymous_id:b phone:+8613800138000", 1),
            saw("anonymous_id:c", 2),
        ]
    )

    settled = settle(_gather(nodes.values(), links), RULES)

    assert (settled.owners >= 0).all()
    assert not settled.rest.size


_PATTERNS = st.sampled_from(
    ["^[0-9]+$", "^a", "b$", r"\Aa", r"b\z", "(?-i)A", r"\bb\b", "[^x]y", "^$", "a|^c$", r"\s"]
)


@given(
    st.lists(_PATTERNS, max_size=3),
    st.lists(st.text(alphabet="abcxyA0 \n\"'", max_size=5), max_size=6),
)
def test_values_that_name_nobody_are_found_among_many(
    patterns: list[str], values: list[str]
) -> None:
    rules = parse_rules(
        {"version": 1, "types": {"shop_id": {"blocked": ["xy"], "blocked_patterns": patterns}}}
    )

    found = find_blocked("shop_id", values, rules)

    assert found == [
        n for n, value in enumerate(values) if is_blocked(Identifier("shop_id", value), rules)
    ]
