"""From log records to a batch: every line becomes event, record, refusal or dead letter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from cdp.batch import Batch, Gap
from cdp.ingest.read_line import read_line
from cdp.ingest.refused_lines import (
    add_received,
    read_rejected,
    refuse,
    refuse_unknown_source,
    refuse_unprocessable,
)
from cdp.log.format import (
    ERASED,
    Kind,
    LoggedLine,
    RejectedLine,
    UnknownFormat,
    unpack_record,
)
from cdp.log.port import Record
from cdp.model import Source
from cdp.posted_record import Refusal
from cdp.read_posted import Arrival, Identify, RecordReader
from cdp.runtime.clock import parse_time

_ERASED_LINE = RejectedLine("suppressed", "erased before it was worked off", b"")
FindSource = Callable[[str], Source | None]


def read_batch(
    log: str,
    records: Sequence[Record],
    positions: Mapping[int, int],
    find_source: FindSource,
    identify: Identify,
    *,
    currency: str = "CNY",
    skip: Collection[tuple[int, int, int]] = (),
    skip_reason: str = "",
) -> Batch:
    """Read ``records``, which start at ``positions``, into one batch.

    Orders that name no currency are in ``currency``.

    Lines named in ``skip`` as (partition, offset, line number) are refused as unprocessable with
    ``skip_reason``; so are lines that cannot be read. Records that cannot be are dead letters.
    """
    batch = Batch(log, _moves(records, positions), gaps=list(_find_gaps(records, positions)))
    reader = RecordReader(identify, currency)
    for record in records:
        has_times = add_received(record, batch.received)
        try:
            kind, lines = unpack_record(record)
            if not has_times:
                raise UnknownFormat("unreadable headers: times")
        except UnknownFormat as error:
            batch.dead.append((record, f"unknown_format: {error}"))
            add_received(record, batch.lost)
            continue
        source = find_source(lines[0].source_id) if lines else None
        for line in lines:
            if (record.partition, record.offset, line.ordinal) in skip:
                batch.rejected.append(refuse_unprocessable(record, kind, line, skip_reason))
            elif kind == "rejected":
                batch.rejected.append(read_rejected(record, line))
            elif line.line == ERASED:
                batch.rejected.append(refuse(record, line, _ERASED_LINE))
            elif source is None:
                batch.rejected.append(refuse_unknown_source(record, kind, line))
            elif reader.reads(kind):
                _read_posted(batch, record, kind, line, source, reader)
            else:
                _read_event(batch, record, line, source, identify)
    return batch


def _moves(records: Sequence[Record], positions: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    moves: dict[int, tuple[int, int]] = {}
    for record in records:
        before, _ = moves.get(record.partition, (positions.get(record.partition, 0), 0))
        moves[record.partition] = (before, record.offset + 1)
    return moves


def _find_gaps(records: Sequence[Record], positions: Mapping[int, int]) -> Iterator[Gap]:
    """Give what retention took from the log before it was read: offsets have no gaps otherwise."""
    expected = dict(positions)
    for record in records:
        first = expected.get(record.partition, 0)
        if record.offset > first:
            yield Gap(record.partition, first, record.offset - first)
        expected[record.partition] = record.offset + 1


def _read_event(
    batch: Batch, record: Record, line: LoggedLine, source: Source, identify: Identify
) -> None:
    try:
        read = read_line(line, source, identify)
    except Exception as error:  # a line that ingest let through but nobody can read
        reason = f"unreadable: {type(error).__name__}"
        batch.rejected.append(refuse_unprocessable(record, "events", line, reason))
        return
    if isinstance(read, RejectedLine):
        batch.rejected.append(refuse(record, line, read))
    else:
        batch.events.append(read)


def _read_posted(
    batch: Batch,
    record: Record,
    kind: Kind,
    line: LoggedLine,
    source: Source,
    reader: RecordReader,
) -> None:
    received_at = parse_time(line.received_at)
    assert received_at is not None
    place = f"{line.request_id}\n{record.partition}\n{line.ordinal}"
    try:
        document = msgspec.json.decode(line.line)
        read = reader.read(kind, document, Arrival(source, received_at, place, line.ordinal))
    except Exception as error:  # a line that ingest let through but nobody can read
        reason = f"unreadable: {type(error).__name__}"
        batch.rejected.append(refuse_unprocessable(record, kind, line, reason))
        return
    if isinstance(read, Refusal):
        refused = RejectedLine(read.code, read.message, line.line, kind=kind)
        batch.rejected.append(refuse(record, line, refused))
    else:
        batch.posted.append(read)
