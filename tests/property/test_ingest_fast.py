"""The short cuts of the door say what the long way says, of every body."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cdp.errors import BadRequest
from cdp.ingest.parse import Judged, judge, open_batch, open_single, take_single
from cdp.model import EVENT_TYPES

LONGEST = 300

texts = st.sampled_from(
    ["", " ", "\u3000", "u", "安", "},{", '"},{"', "}]", '],"batch":[', "a\nb", "x" * 600]
)
ids = st.one_of(st.none(), texts, st.integers(), st.floats(), st.lists(texts, max_size=2))
nested = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "type", "batch"]), inner)
    ),
    max_leaves=8,
)
types = st.one_of(st.sampled_from(sorted(EVENT_TYPES)), st.sampled_from(["x", None, 7]))
odd_events = st.fixed_dictionaries(
    {},
    optional={
        "type": types, "userId": ids, "anonymousId": ids, "properties": nested,
        "items": st.lists(st.dictionaries(st.just("type"), types, max_size=1), max_size=3),
    },
)  # fmt: skip
good_events = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(EVENT_TYPES)), "userId": st.sampled_from(["u", "v", "},{"])},
    optional={"properties": nested},
)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" , ", "\t:\n")])


def write(value: Any, separators: tuple[str, str], *, escapes: bool) -> bytes:
    return json.dumps(value, separators=separators, ensure_ascii=escapes).encode(
        "utf-8", "surrogatepass"
    )


def outcome(judged: Judged) -> tuple[Any, ...]:
    return judged.lines, judged.accepted, judged.rejected


@given(
    st.lists(st.one_of(good_events, odd_events, nested), min_size=1, max_size=6),
    separators,
    st.booleans(),
    st.integers(1, 5),
)
@example([{"type": "track", "userId": "u", "t": "},{"}] * 2, (",", ":"), True, 2)
@example([{"type": "track", "userId": "u", "p": [{"type": "page"}, {}]}] * 2, (",", ":"), True, 2)
@example([{"type": "track", "userId": "u", "p": "x" * LONGEST}] * 2, (",", ":"), True, 2)
def test_a_batch_taken_in_whole_list_steps_is_what_it_is_event_by_event(
    batch: list[Any], separators: tuple[str, str], escapes: bool, partitions: int
) -> None:
    body = write({"batch": batch, "sentAt": "x"}, separators, escapes=escapes)
    opened = open_batch(body)
    both = [
        judge(way, route_type=None, partitions=partitions, max_event_bytes=LONGEST)
        for way in (opened, replace(opened, is_plain=False))
    ]
    assert outcome(both[0]) == outcome(both[1])
    assert both[0].accepted + len(both[0].rejected) == len(batch)


@given(st.lists(good_events, min_size=1, max_size=6), st.integers(1, 5))
def test_ordinary_batches_take_the_short_cut(batch: list[Any], partitions: int) -> None:
    opened = open_batch(json.dumps({"batch": batch}, allow_nan=True).encode())
    if any(word in json.dumps(batch) for word in ("NaN", "Infinity")):
        return
    assert opened.is_plain


@given(
    st.one_of(good_events, odd_events, nested),
    separators,
    st.booleans(),
    st.sampled_from(sorted(EVENT_TYPES)),
)
@example({"userId": "u"}, (",", ":"), True, "track")
@example({"type": "page", "userId": "u"}, (",", ":"), True, "track")
def test_a_single_event_taken_at_once_is_what_it_is_the_long_way(
    event: Any, separators: tuple[str, str], escapes: bool, route_type: str
) -> None:
    body = write(event, separators, escapes=escapes)
    taken = take_single(body, route_type, 4, LONGEST)
    try:
        opened = open_single(body, wants_key=False)
    except BadRequest:
        assert taken is None
        return
    judged = judge(opened, route_type=route_type, partitions=4, max_event_bytes=LONGEST)
    if taken is not None:
        assert judged.lines == {taken[0]: [taken[1]]}
        assert judged.rejected == []


@given(st.binary(max_size=100))
def test_what_is_no_event_is_never_taken_at_once(body: bytes) -> None:
    taken = take_single(body, "track", 4, LONGEST)
    if taken is not None:
        assert json.loads(taken[1])["type"] == "track"
