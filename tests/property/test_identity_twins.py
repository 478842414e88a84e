"""A hashed contact is its clear twin: the oracle is the world in which all wrote it clearly."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.facts import LinkFact
from cdp.identity.resolve import resolve
from cdp.identity.twins import digest, form_of, list_pairs
from cdp.model import Identifier, Observation
from tests.support.identity_world import RULES, build_facts, saw

EMAILS = ("a@x.cn", "b@x.cn")
HASHED = {f"email:{value}": f"email_sha256:{digest(value)}" for value in EMAILS}
OTHERS = ("user_id:u1", "user_id:u2", "crm_id:k", "phone:+8613800138000", "anonymous_id:c1",
          "anonymous_id:c2", "device_id:d")  # fmt: skip
WORDS = st.sampled_from([*HASHED, *HASHED, *OTHERS])

Saw = tuple[frozenset[str], frozenset[str], int, bool]
EVENTS: st.SearchStrategy[list[Saw]] = st.lists(
    st.tuples(
        st.frozensets(WORDS, min_size=1, max_size=3),
        st.frozensets(st.sampled_from(sorted(HASHED))),
        st.integers(0, 600),
        st.booleans(),
    ),
    max_size=9,
)


def write(events: list[Saw], *, hashes: bool) -> list[Observation]:
    """Return the events, in which those who would hash an address do so, or do not."""
    seen = [saw(word, 0, message="0") for word in HASHED]
    for number, (words, hashed, day, public) in enumerate(events):
        said = [HASHED[w] if hashes and w in hashed and w in HASHED else w for w in sorted(words)]
        seen.append(saw(" ".join(said), day, message=f"m{number}", public=public))
    return seen


def tell(observations: list[Observation]) -> tuple[set[frozenset[str]], set[frozenset[str]]]:
    """Return who is who at first and in the end, hashes written as their clear twins."""
    nodes, links = build_facts(observations)
    spelt = {n: Identifier(node.type, node.value) for n, node in nodes.items()}
    forms: dict[object, dict[int, Identifier]] = {}
    for node_id, name in spelt.items():
        forms.setdefault(form_of(name, RULES) or name, {})[node_id] = name
    for pair in (pair for group in forms.values() for pair in list_pairs(group)):
        at = nodes[pair[0]].first_seen
        links.append(LinkFact(len(links) + 1, True, pair, at, "", (), "twin"))
    found = resolve(nodes.values(), links, RULES)
    clear = {hashed: word for word, hashed in HASHED.items()}
    told = []
    for end in (0, -1):
        people: dict[object, set[str]] = {}
        for node_id, parts in found.assignments.items():
            word = str(spelt[node_id])
            people.setdefault(parts[end].profile, set()).add(clear.get(word, word))
        told.append({frozenset(members) for members in people.values()})
    return told[0], told[1]


@given(EVENTS)
def test_who_hashes_an_address_is_who_writes_it(events: list[Saw]) -> None:
    assert tell(write(events, hashes=True)) == tell(write(events, hashes=False))


@given(EVENTS, st.randoms())
def test_twins_do_not_depend_on_what_came_first(events: list[Saw], chance: Random) -> None:
    observations = write(events, hashes=True)
    shuffled = observations + observations[:3]
    chance.shuffle(shuffled)
    assert tell(shuffled) == tell(observations)
