"""The record format gives back what went in, and nothing else passes for it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cdp.log.format import LoggedLine, RequestLines, UnknownFormat, pack_record, unpack_record
from cdp.log.port import NewRecord, Record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
lines = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" "))
requests = st.builds(
    RequestLines,
    request_id=texts,
    received_at=texts,
    sent_at=st.none() | texts,
    lines=st.lists(lines, min_size=1, max_size=5),
)


def _as_read(record: NewRecord) -> Record:
    return Record(record.partition, 0, NOON, dict(record.headers), record.value)


@given(
    source=texts,
    given=st.lists(requests, min_size=1, max_size=5),
    kind=st.sampled_from(["events", "rejected"]),
)
def test_every_line_comes_back_with_what_its_request_said(
    source: str, given: list[RequestLines], kind: str
) -> None:
    # An empty value cannot tell one empty line from none; an event is never an empty line.
    assume(any(line for request in given for line in request.lines))
    record = pack_record(3, b"key", source, given, kind)  # type: ignore[arg-type]
    found_kind, found = unpack_record(_as_read(record))
    expected = [
        (request.request_id, request.received_at, request.sent_at, bytes(line))
        for request in given
        for line in request.lines
    ]
    assert found_kind == kind
    assert found == [
        LoggedLine(source, request_id, received_at, sent_at, ordinal, line)
        for ordinal, (request_id, received_at, sent_at, line) in enumerate(expected)
    ]


@given(given=st.lists(requests, min_size=1, max_size=3), extra=st.integers(1, 3))
def test_a_value_with_other_lines_than_the_headers_count_is_refused(
    given: list[RequestLines], extra: int
) -> None:
    record = _as_read(pack_record(0, None, "src", given))
    changed = Record(0, 0, NOON, record.headers, record.value + b"\n{}" * (extra + 1))
    with pytest.raises(UnknownFormat):
        unpack_record(changed)


@given(headers=st.dictionaries(st.sampled_from(["cdp-format", "cdp-kind", "x"]), texts))
def test_what_others_wrote_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(UnknownFormat):
        unpack_record(Record(0, 0, NOON, headers, b"{}"))


@pytest.mark.parametrize(
    "text", ["", "[", "{}", '[["a"]]', '[[1,"b",null,1]]', '[["a","b",null,-1]]']
)
def test_unreadable_request_headers_are_refused(text: str) -> None:
    headers = {"cdp-format": "1", "cdp-kind": "events", "cdp-source": "s", "cdp-requests": text}
    with pytest.raises(UnknownFormat):
        unpack_record(Record(0, 0, NOON, headers, b"{}"))
