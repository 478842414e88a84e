"""From log records to a batch: every line becomes an event, a rejected event or a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from cdp.ingest.read_line import read_line
from cdp.log.format import LoggedLine, RejectedLine, UnknownFormat, unpack_record
from cdp.log.port import Record
from cdp.model import Identifier, RejectedEvent, Source
from cdp.pipeline import Batch
from cdp.runtime.clock import parse_time

Identify = Callable[[Sequence[tuple[str, object]]], tuple[Identifier, ...]]
FindSource = Callable[[str], Source | None]

_decode_rejected = msgspec.json.Decoder(RejectedLine).decode


def read_batch(
    log: str,
    records: Sequence[Record],
    positions: Mapping[int, int],
    find_source: FindSource,
    identify: Identify,
    *,
    skip: Collection[tuple[int, int, int]] = (),
    skip_reason: str = "",
) -> Batch:
    """Read ``records``, which start at ``positions``, into one batch.

    Lines named in ``skip`` as (partition, offset, line number) become dead letters with
    ``skip_reason``; so does what cannot be read at all.
    """
    batch = Batch(log, _moves(records, positions), [])
    for record in records:
        try:
            kind, lines = unpack_record(record)
        except UnknownFormat as error:
            batch.dead.append((record, None, record.value, f"unknown_format: {error}"))
            continue
        source = find_source(lines[0].source_id) if lines else None
        if lines and source is None:
            batch.dead.append((record, None, record.value, "unknown_source"))
            continue
        for line in lines:
            assert source is not None
            if (record.partition, record.offset, line.ordinal) in skip:
                batch.dead.append((record, line.ordinal, line.line, skip_reason))
            elif kind == "rejected":
                batch.rejected.append(_read_rejected(line))
            else:
                _read_event(batch, record, line, source, identify)
    return batch


def _moves(records: Sequence[Record], positions: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    moves: dict[int, tuple[int, int]] = {}
    for record in records:
        before, _ = moves.get(record.partition, (positions.get(record.partition, 0), 0))
        moves[record.partition] = (before, record.offset + 1)
    return moves


def _read_event(
    batch: Batch, record: Record, line: LoggedLine, source: Source, identify: Identify
) -> None:
    try:
        read = read_line(line, source, identify)
    except Exception as error:  # a line that ingest let through but nobody can read
        batch.dead.append((record, line.ordinal, line.line, f"unreadable: {type(error).__name__}"))
        return
    if isinstance(read, RejectedLine):
        batch.rejected.append(_keep_rejected(line, read))
    else:
        batch.events.append(read)


def _read_rejected(line: LoggedLine) -> RejectedEvent:
    return _keep_rejected(line, _decode_rejected(line.line))


def _keep_rejected(line: LoggedLine, refused: RejectedLine) -> RejectedEvent:
    received_at = parse_time(line.received_at)
    assert received_at is not None
    return RejectedEvent(
        line.source_id, refused.message_id, refused.code, refused.message, received_at, refused.raw
    )
