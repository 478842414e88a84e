"""How the requests of a few milliseconds become log records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cdp.ingest.packing import RECORD_BYTES, RequestLog, pack
from cdp.log.format import join_lines, unpack_record
from cdp.log.port import NewRecord, Record

RECEIVED = "2026-03-01T08:00:00.000Z"


def request(
    number: int,
    events: Mapping[int, Sequence[bytes]],
    *,
    source_id: str = "src_1",
    rejected: Sequence[bytes] = (),
) -> RequestLog:
    return RequestLog(
        source_id,
        f"req_{number}",
        RECEIVED,
        None,
        {partition: join_lines(lines) for partition, lines in events.items()},
        sum(len(line) for lines in events.values() for line in lines),
        rejected,
    )


def lines_of(record: NewRecord) -> list[tuple[str, bytes]]:
    read = Record(
        record.partition, 0, datetime(2026, 3, 1, tzinfo=UTC), record.headers, record.value
    )
    return [(line.request_id, line.line) for line in unpack_record(read)[1]]


def test_requests_of_one_source_share_a_record_per_partition() -> None:
    records, places = pack(
        [request(1, {0: [b"a"], 3: [b"b"]}), request(2, {3: [b"c", b"d"]}), request(3, {0: [b"e"]})]
    )
    assert [(record.partition, lines_of(record)) for record in records] == [
        (0, [("req_1", b"a"), ("req_3", b"e")]),
        (3, [("req_1", b"b"), ("req_2", b"c"), ("req_2", b"d")]),
    ]
    assert places == [[0, 1], [1], [0]]


def test_sources_never_share_a_record() -> None:
    records, places = pack([request(1, {0: [b"a"]}), request(2, {0: [b"b"]}, source_id="src_2")])
    assert [record.headers["cdp-source"] for record in records] == ["src_1", "src_2"]
    assert places == [[0], [1]]


def test_refused_events_travel_in_records_of_their_own() -> None:
    records, places = pack([request(1, {0: [b"a"]}, rejected=[b"{}"])])
    assert [record.headers["cdp-kind"] for record in records] == ["events", "rejected"]
    assert places == [[0, 1]]


def test_records_are_cut_before_they_grow_too_large() -> None:
    line = b"x" * 100_000
    records, places = pack([request(1, {0: [line] * 12}), request(2, {0: [line] * 3})])
    assert [len(lines_of(record)) for record in records] == [8, 7]
    assert all(len(record.value) <= RECORD_BYTES for record in records)
    assert places == [[0, 1], [1]]


def test_one_huge_line_has_a_record_to_itself() -> None:
    huge = b"x" * (2 * RECORD_BYTES)
    records, places = pack([request(1, {0: [b"a", huge, b"b"]})])
    assert [[len(line) for _, line in lines_of(record)] for record in records] == [
        [1],
        [len(huge)],
        [1],
    ]
    assert places == [[0, 1, 2]]
