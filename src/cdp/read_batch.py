"""From log records to a batch: every line becomes event, order, refusal or dead letter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from cdp.batch import Batch, PostedOrder
from cdp.ingest.read_line import read_line
from cdp.log.format import LoggedLine, RejectedLine, UnknownFormat, unpack_record
from cdp.log.port import Record
from cdp.model import Identifier, RejectedEvent, Source
from cdp.orders.order_record import read_order
from cdp.orders.read_report import Refusal
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
    currency: str = "CNY",
    skip: Collection[tuple[int, int, int]] = (),
    skip_reason: str = "",
) -> Batch:
    """Read ``records``, which start at ``positions``, into one batch.

    Orders that name no currency are in ``currency``.

    Lines named in ``skip`` as (partition, offset, line number) become dead letters with
    ``skip_reason``; so does what cannot be read at all.
    """
    batch = Batch(log, _moves(records, positions))
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
            elif kind == "orders":
                _read_order(batch, record, line, source, identify, currency)
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


def _read_order(
    batch: Batch,
    record: Record,
    line: LoggedLine,
    source: Source,
    identify: Identify,
    currency: str,
) -> None:
    received_at = parse_time(line.received_at)
    assert received_at is not None
    try:
        read = read_order(
            msgspec.json.decode(line.line),
            place=f"{line.request_id}\n{record.partition}\n{line.ordinal}",
            received_at=received_at,
            default_currency=currency,
        )
    except Exception as error:  # a line that ingest let through but nobody can read
        batch.dead.append((record, line.ordinal, line.line, f"unreadable: {type(error).__name__}"))
        return
    if isinstance(read, Refusal):
        refused = RejectedLine(read.code, read.message, line.line)
        batch.rejected.append(_keep_rejected(line, refused))
        return
    batch.orders.append(
        PostedOrder(
            source,
            read.report.message_id,
            received_at,
            identify(read.claims),
            read.seen_at,
            read.report,
        )
    )


def _read_rejected(line: LoggedLine) -> RejectedEvent:
    return _keep_rejected(line, _decode_rejected(line.line))


def _keep_rejected(line: LoggedLine, refused: RejectedLine) -> RejectedEvent:
    received_at = parse_time(line.received_at)
    assert received_at is not None
    return RejectedEvent(
        line.source_id, refused.message_id, refused.code, refused.message, received_at, refused.raw
    )
