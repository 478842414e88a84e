"""Where nothing can clash, the short way says what the replay says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.plain import resolve_plain
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules, default_rules
from cdp.model import Identifier, Observation
from tests.support.identity_world import RULES, build_facts, saw

_LIMITED = RULES.model_copy(
    update={
        "types": {
            **RULES.types,
            "phone": RULES.types["phone"].model_copy(update={"limit": 1, "hot_limit": 1}),
        }
    }
)
_BLOCKING = RULES.with_blocks(frozenset([Identifier("email", "a@x")]))

_names = st.sampled_from(
    ["user_id:a", "user_id:b", "crm_id:a", "crm_id:till/a", "wechat_openid:app1/o", "email:a@x",
     "email:b@x", "email_sha256:" + "a" * 64, "phone:+8613800138000", "phone:+8613800138001",
     "anonymous_id:a", "anonymous_id:b", "device_id:a", "idfa:0000", "other:x"]
)  # fmt: skip
_observations = st.lists(
    st.builds(
        lambda names, day, public: saw(" ".join(names), day, public=public),
        st.lists(_names, min_size=1, max_size=5, unique=True),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


@given(
    _observations,
    st.sampled_from([RULES, _LIMITED, _BLOCKING, default_rules("GB")]),
    st.sets(st.integers(1, 4)),
)
def test_what_is_resolved_the_short_way_is_what_the_replay_comes_to(
    observations: list[Observation], rules: Rules, hot: set[int]
) -> None:
    found, links = build_facts(observations)
    nodes = [
        node._replace(quarantined=node.node_id in hot and len(hot) == 1) for node in found.values()
    ]

    plain = resolve_plain(nodes, links, rules)

    if plain is not None:
        assert plain == resolve(nodes, links, rules)


def test_a_person_with_one_value_of_each_type_takes_the_short_way() -> None:
    nodes, links = build_facts([saw("user_id:a email:a@x anonymous_id:a", 0)])

    assert resolve_plain(list(nodes.values()), links, RULES) is not None


def test_a_node_that_nothing_was_seen_with_takes_the_short_way() -> None:
    nodes, links = build_facts([saw("anonymous_id:a", 0)])

    plain = resolve_plain(list(nodes.values()), links, RULES)

    assert plain is not None
    assert plain == resolve(nodes.values(), links, RULES)
