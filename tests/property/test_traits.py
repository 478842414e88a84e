"""Traits amount to what a replay of everything said gives, whoever kept which part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.profiles.traits import Register, fold_traits, join_registers, take_apart

START = datetime(2026, 3, 1, tzinfo=UTC)
RANKS = {1: 0, 2: 0, 3: 5}

_SCALARS = st.sampled_from([None, "", "x", 0, 1, 2.5, True, [], ["b", "a"], [1]])
_KEYS = st.sampled_from(["a", "b", "c/~", "🙂"])
_WITHIN = st.recursive(
    _SCALARS | st.just({"$unset": True}),
    lambda inner: st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=5,
)
_OPERATIONS = st.one_of(
    st.just({"$unset": True}),
    st.builds(lambda v: {"$set_once": v}, st.sampled_from([1, "first", {"a": 1}, ["q"]])),
    st.builds(
        lambda v: {"$add": v},
        st.lists(st.sampled_from(["a", "b", 1, {"k": 1, "j": 2}, {"j": 2, "k": 1}]), max_size=3),
    ),
)
_VALUES = _SCALARS | st.dictionaries(_KEYS, _WITHIN, max_size=3) | _OPERATIONS


@st.composite
def _messages(draw: st.DrawFn) -> list[Register]:
    """Give what up to ten messages say of one trait; a message says one thing of it."""
    values = draw(st.lists(_VALUES, max_size=10))
    return [
        Register(
            "t",
            value,
            START + timedelta(hours=draw(st.integers(0, 6))),
            f"m{number}",
            source := draw(st.sampled_from([1, 2, 3])),
            rank=RANKS[source],
        )
        for number, value in enumerate(values)
    ]


def replay(messages: list[Register]) -> Any:
    """Return what the messages amount to, told one after the other: no registers, no parts."""
    state: Any = None
    last = None
    once = []
    for message in sorted(messages, key=lambda m: (m.rank, m.at, m.message_id)):
        said = message.value
        if isinstance(said, dict) and set(said) == {"$set_once"}:
            once.append(message)
            continue
        if isinstance(said, dict) and set(said) == {"$add"}:
            if not said["$add"]:
                continue
            have = state if isinstance(state, list) else []
            texts = {_text(one): one for one in have}
            texts |= {
                _text(dict(sorted(one.items())) if isinstance(one, dict) else one): one
                for one in said["$add"]
            }
            state = [json.loads(text) for text in sorted(texts)]
        elif said == {"$unset": True}:
            state = None
        elif isinstance(said, dict):
            state = _overlay(state if isinstance(state, dict) else {}, said)
        else:
            state = said
        last = (message.rank, message.at, message.message_id)
    if state is None and once:
        first = min(once, key=lambda m: (-m.rank, m.at, m.message_id))
        if last is None or (first.rank, first.at, first.message_id) > last:
            return first.value["$set_once"]
    return state


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        if value is None or value == {"$unset": True}:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = _overlay(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result


def _apart(messages: list[Register]) -> list[Register]:
    return [part for message in messages for part in take_apart(message)]


def _value(registers: Any, at: datetime | None = None) -> Any:
    folded = fold_traits(registers, at)
    return folded["t"].newest.value if folded else None


@settings(max_examples=200)
@given(_messages(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_and_grouping_over_nodes_gives_the_replay(
    messages: list[Register], random: Random, nodes: int
) -> None:
    arrived = _apart(messages) + _apart(messages[:3])
    random.shuffle(arrived)
    held: list[dict[Any, Register]] = [{} for _ in range(nodes)]
    for part in arrived:
        node = random.randrange(nodes)
        held[node] = join_registers([*held[node].values(), part])
    together = [register for node in held for register in node.values()]
    random.shuffle(together)
    assert _value(together) == replay(messages)


@settings(max_examples=60)
@given(_messages(), st.integers(0, 6))
def test_as_of_a_moment_is_the_replay_of_what_was_said_until_then(
    messages: list[Register], hours: int
) -> None:
    at = START + timedelta(hours=hours)
    assert _value(_apart(messages), at) == replay([one for one in messages if one.at <= at])


@settings(max_examples=60)
@given(_messages())
def test_joining_again_changes_nothing(messages: list[Register]) -> None:
    once = join_registers(_apart(messages))
    assert join_registers([*once.values(), *once.values()]) == once


@settings(max_examples=60)
@given(_messages())
def test_an_object_kept_whole_by_an_earlier_version_counts_the_same(
    messages: list[Register],
) -> None:
    """Registers written before there were parts hold whole objects, as the only register."""
    plain = [one for one in messages if not isinstance(one.value, dict) or "$" not in str(one)]
    if plain:
        newest = max(plain, key=lambda one: one.stamp)
        assert _value([newest]) == replay([newest])
