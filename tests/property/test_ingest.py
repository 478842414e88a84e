"""Whatever arrives: nothing crashes, everything is counted once, and lines survive the log."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdp.errors import BadRequest
from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.rules import default_rules
from cdp.ingest.body import inflate
from cdp.ingest.parse import Judged, judge, open_batch, open_single
from cdp.ingest.pixel import read_pixel
from cdp.ingest.read_line import read_line
from cdp.log.format import LoggedLine, RequestLines, pack_record, unpack_record
from cdp.log.port import Record
from cdp.model import Event, Identifier, Source

identify = partial(identify_claims, rules=default_rules("CN"))
SOURCE = Source("src_1", 1, "shop", "web")
RECEIVED = "2026-03-01T08:00:10.000Z"

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet=st.characters(codec=None), max_size=12),
    st.sampled_from(["u1", "a1", "ann@example.com", "2026-03-01T08:00:00Z", "track", "page"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
contexts = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("traits", "externalIds", "device", "consent", "cdp", "page"), values),
)
MEMBERS = (
    "userId", "anonymousId", "previousId", "groupId", "messageId", "timestamp",
    "originalTimestamp", "sentAt", "properties", "traits", "event", "name",
)  # fmt: skip
events = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "x"])},
    optional={
        **dict.fromkeys(MEMBERS, values),
        "context": st.one_of(contexts, values),
    },
)  # fmt: skip
elements = st.one_of(events, values)


def judge_body(body: bytes, route_type: str | None, partitions: int = 4) -> Judged | None:
    try:
        opened = open_batch(body) if route_type is None else open_single(body, wants_key=True)
    except BadRequest:
        return None
    return judge(opened, route_type=route_type, partitions=partitions, max_event_bytes=2000)


def read_all(judged: Judged) -> list[Event]:
    read: list[Event] = []
    for lines in judged.lines.values():
        for ordinal, line in enumerate(lines):
            found = read_line(
                LoggedLine("src_1", "r", RECEIVED, None, ordinal, line), SOURCE, identify
            )
            assert isinstance(found, Event), (found, line)
            read.append(found)
    return read


@given(st.binary(max_size=200), st.sampled_from([None, "track"]))
def test_no_bytes_crash_the_door(body: bytes, route_type: str | None) -> None:
    judged = judge_body(body, route_type)
    if judged is not None:
        read_all(judged)


@given(st.binary(max_size=200), st.sampled_from([b"gzip", None, b"br"]))
def test_no_bytes_crash_the_unpacking(body: bytes, encoding: bytes | None) -> None:
    with contextlib.suppress(BadRequest):
        assert len(inflate(body, encoding, 1000)) <= max(1000, len(body))


@given(st.binary(max_size=200))
def test_no_query_crashes_the_pixel(query: bytes) -> None:
    judge_body(read_pixel(query), "page")


@given(st.lists(elements, min_size=1, max_size=6))
def test_every_element_is_taken_or_refused_once_and_what_is_taken_can_be_read(
    batch: list[Any],
) -> None:
    # As Python's own encoder writes it: NaN, lone surrogates, integers of any size included.
    judged = judge_body(json.dumps({"batch": batch}).encode(), None)
    assert judged is not None
    taken = sum(map(len, judged.lines.values()))
    assert taken == judged.accepted
    assert taken + len(judged.rejected) == len(batch)
    refused = [one.index for one in judged.rejected]
    assert refused == sorted(set(refused))
    for event in read_all(judged):
        for part in (event.properties, event.context):
            assert isinstance(strictly(part), dict)
        json.dumps(dict(event.traits), allow_nan=False).encode()


def strictly(data: bytes) -> Any:
    """Read JSON as Postgres and DuckDB do: finite numbers, integers of 64 bits, sound text."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def read_int(text: str) -> int:
        assert -(2**63) <= int(text) < 2**64
        return int(text)

    def read_float(text: str) -> float:
        assert math.isfinite(float(text))
        return float(text)

    found = json.loads(data, parse_constant=refuse, parse_int=read_int, parse_float=read_float)
    assert b"\\u0000" not in data
    json.dumps(found, ensure_ascii=False).encode()
    return found


@given(elements, st.booleans())
def test_an_element_gets_the_same_verdict_alone_and_among_others(
    element: Any, is_nan_nearby: bool
) -> None:
    other: dict[str, Any] = {"type": "page", "userId": "u", "n": float("nan")}
    if not is_nan_nearby:
        del other["n"]
    alone = judge_body(json.dumps({"batch": [element]}).encode(), None, partitions=1)
    among = judge_body(json.dumps({"batch": [other, element]}).encode(), None, partitions=1)
    assert alone is not None
    assert among is not None
    assert [one.code for one in alone.rejected] == [one.code for one in among.rejected]
    assert alone.lines.get(0, []) == among.lines[0][1:]


@given(
    st.lists(
        st.lists(st.dictionaries(st.text(max_size=5), scalars, max_size=3), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_lines_come_out_of_a_record_as_they_went_in(requests: list[list[dict[str, Any]]]) -> None:
    packed = pack_record(
        3,
        b"key",
        "src_1",
        [
            RequestLines(f"req_{n}", RECEIVED, None, [json.dumps(e).encode() for e in lines])
            for n, lines in enumerate(requests)
        ],
    )
    record = Record(3, 0, datetime(2026, 3, 1, tzinfo=UTC), packed.headers, packed.value)
    kind, lines = unpack_record(record)
    assert kind == "events"
    assert [(line.request_id, line.line) for line in lines] == [
        (f"req_{n}", json.dumps(e).encode()) for n, one in enumerate(requests) for e in one
    ]
    assert [line.ordinal for line in lines] == list(range(len(lines)))


@given(
    st.lists(events, min_size=1, max_size=4),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.dictionaries(st.sampled_from(["a", "batch", "sentAt"]), values, max_size=2),
    st.booleans(),
)
def test_a_batch_is_cut_as_a_parser_would_cut_it(
    batch: list[Any], separators: tuple[str, str], beside: dict[str, Any], is_last: bool
) -> None:
    document = {**beside, "batch": batch} if is_last else {"batch": batch, "x": beside}
    body = json.dumps(document, separators=separators).encode()
    opened = open_batch(body)
    assert [json.loads(bytes(line)) for line in opened.items] == json.loads(body)["batch"] or any(
        b"NaN" in bytes(line) for line in opened.items
    )


def write(value: Any) -> str:
    """Write JSON as nobody's encoder does: ``Pairs`` may hold a name twice."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(k)}: {write(v)}" for k, v in value.pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(write, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True)
class Pairs:
    """An object whose names may come twice."""

    pairs: list[tuple[str, Any]]


ids = st.one_of(
    st.sampled_from(["u1", "", " ", "x" * 512, "x" * 513, 7, 0, 2**70, 1.0, 1.5, True, None]),
    values,
)
doubled_events = st.lists(
    st.one_of(
        st.tuples(st.just("type"), st.sampled_from(["track", "identify", "alias", "x", 7])),
        st.tuples(st.sampled_from(["userId", "anonymousId", "previousId", "messageId"]), ids),
        st.tuples(st.sampled_from(["timestamp", "sentAt", "traits", "properties", "own"]), values),
        st.tuples(st.just("context"), contexts),
    ),
    max_size=10,
).map(Pairs)


@given(st.lists(doubled_events, min_size=1, max_size=4), st.booleans())
def test_door_and_worker_read_one_thing_of_names_that_come_twice(
    batch: list[Pairs], is_cut: bool
) -> None:
    # With a NaN beside it the body takes the way of the cutter.
    body = f'{{"n": {"NaN" if is_cut else "0"}, "batch": {write(batch)}}}'.encode()
    judged = judge_body(body, None, partitions=1)
    assert judged is not None
    refused = {one.index: one for one in judged.rejected}
    taken = iter(read_all(judged))
    for index, pairs in enumerate(batch):
        # The last one counts, as in every parser of JSON.
        last = json.loads(write(pairs))
        told = last.get("messageId")
        if index in refused:
            assert isinstance(refused[index].message_id, str | None)
            continue
        event = next(taken)
        assert event.type == last["type"]
        if isinstance(told, str) and told.isprintable() and told.strip():
            assert event.message_id == told
        for name, kind in (("userId", "user_id"), ("anonymousId", "anonymous_id")):
            value = last.get(name)
            if value in ("u1", "x" * 512):
                assert Identifier(kind, value) in event.identifiers
            assert value is None or isinstance(value, str | int) or math.isnan(value)
        if isinstance(last.get("properties"), dict) and event.type == "track":
            assert json.loads(event.properties).keys() == last["properties"].keys() or any(
                not name.isprintable() for name in last["properties"]
            )
        assert ("own" in last) == (
            "own" in strictly(event.context).get("cdp", {}).get("fields", {})
        )


@given(st.lists(elements, min_size=1, max_size=3))
def test_a_message_without_an_id_gets_the_same_one_again_when_it_has_a_time(
    batch: list[Any],
) -> None:
    for one in batch:
        if isinstance(one, dict):
            one.pop("messageId", None)
            one["timestamp"] = "2026-03-01T08:00:00Z"
    sendings = (("2026-03-01T08:00:01Z", 0), ("2026-03-02T08:00:01Z", float("nan")))
    bodies = [json.dumps({"batch": batch, "sentAt": sent, "n": n}).encode() for sent, n in sendings]
    first, again = (judge_body(body, None, partitions=1) for body in bodies)
    assert first is not None
    assert again is not None
    assert [e.message_id for e in read_all(first)] == [e.message_id for e in read_all(again)]
