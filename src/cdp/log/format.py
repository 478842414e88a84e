"""Format 1 of a log record: the events of one source and one partition, from one or more requests.

The value is JSON lines, one event a line, as the caller sent it, so any Kafka consumer can read it.
Posted records (orders, accounts) travel in the same way.
The headers say the rest:

=================  =================================================================
``cdp-format``     ``1``
``cdp-kind``       ``events``; ``orders``, ``accounts`` (lines are then posted records);
                   ``privacy`` (requests to delete or export a person, as shops send them); or
                   ``rejected`` (lines are then ``RejectedLine`` objects)
``cdp-source``     the source's id
``cdp-requests``   JSON list of ``[request id, received at, sent at or null, lines]``, in line order
=================  =================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from cdp.log.port import NewRecord, Record

FORMAT = "1"
ERASED = b'{"type":"erased"}'
"""What stands in place of a line that was erased for privacy."""
Kind = Literal["events", "orders", "accounts", "privacy", "rejected"]
KINDS: frozenset[str] = frozenset(Kind.__args__)  # type: ignore[attr-defined]


class RequestLines(NamedTuple):
    """The lines of one request that go to one partition. Times are RFC 3339 text."""

    request_id: str
    received_at: str
    sent_at: str | None
    lines: Sequence[bytes]


class JoinedLines(NamedTuple):
    """Lines as they lie in a record: with a newline between each two."""

    total: int
    value: bytes

    def split(self) -> list[bytes]:
        """Return them one by one."""
        return self.value.split(b"\n")


class RejectedLine(msgspec.Struct, omit_defaults=True):
    """A refused event on its way to the ``rejected`` table; bytes travel as base64."""

    code: str
    message: str
    raw: bytes
    message_id: str | None = None
    index: int | None = None
    """Its place in the request, or its row in a file."""
    kind: str = "events"
    """What it would have been: events, orders, …"""
    route_type: str | None = None
    """The type of event that the route says."""
    shared: bytes | None = None
    """What the batch says for all its events, as JSON."""
    truncated: bool = False
    """Whether ``raw`` is only the beginning."""


class LoggedLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a record with what its request said about it. ``ordinal`` is its line number."""

    source_id: str
    request_id: str
    received_at: str
    sent_at: str | None
    ordinal: int
    line: bytes


class UnknownFormat(Exception):
    """The record was written by something else, or by a newer version."""


RequestHeader = tuple[str, str, str | None, int]
"""Request id, received at, sent at, number of lines."""
_encode = msgspec.json.Encoder().encode
_decode_requests = msgspec.json.Decoder(list[RequestHeader]).decode


def pack_record(
    partition: int,
    key: bytes | None,
    source_id: str,
    requests: Iterable[RequestLines],
    kind: Kind = "events",
) -> NewRecord:
    """Pack the lines of ``requests`` into one record. A line must be JSON without a raw newline."""
    entries = [
        (
            introduce(request.request_id, request.received_at, request.sent_at),
            join_lines(request.lines),
        )
        for request in requests
    ]
    return pack_joined(partition, key, source_id, entries, kind)


def join_lines(lines: Sequence[bytes | msgspec.Raw]) -> JoinedLines:
    """Join lines, of which none has a raw newline in it."""
    if len(lines) == 1:
        return JoinedLines(1, bytes(lines[0]))
    return JoinedLines(len(lines), b"\n".join(lines))


def introduce(request_id: str, received_at: str, sent_at: str | None) -> str:
    """Return what a record's header says of a request, up to the number of its lines.

    The same for every record that holds lines of it, so it is written once.
    """
    return _encode((request_id, received_at, sent_at)).decode()[:-1]


def pack_joined(
    partition: int,
    key: bytes | None,
    source_id: str,
    entries: Sequence[tuple[str, JoinedLines]],
    kind: Kind = "events",
) -> NewRecord:
    """Pack the lines of requests into one record, each with what ``introduce`` said of it."""
    headers = {
        "cdp-format": FORMAT,
        "cdp-kind": kind,
        "cdp-source": source_id,
        "cdp-requests": f"[{','.join([f'{intro},{lines.total}]' for intro, lines in entries])}]",
    }
    value = b"\n".join([lines.value for _, lines in entries if lines.total])
    return NewRecord(partition, key, headers, value)


def unpack_record(record: Record) -> tuple[Kind, list[LoggedLine]]:
    """Return the kind and the lines of a record; raise ``UnknownFormat`` when it is not ours."""
    headers = record.headers
    kind = headers.get("cdp-kind")
    if headers.get("cdp-format") != FORMAT or kind not in KINDS:
        raise UnknownFormat(f"format {headers.get('cdp-format')!r}, kind {kind!r}")
    try:
        requests = _decode_requests(headers["cdp-requests"])
        source_id = headers["cdp-source"]
    except (KeyError, msgspec.DecodeError) as error:
        raise UnknownFormat(f"unreadable headers: {error}") from error
    lines = record.value.split(b"\n") if record.value else []
    if len(lines) != sum(count for *_, count in requests):
        raise UnknownFormat("the headers count other lines than the value holds")
    return kind, list(_zip_lines(source_id, requests, lines))  # type: ignore[return-value]


def read_requests(headers: Mapping[str, str]) -> list[RequestHeader]:
    """Return what the headers of a record say it holds; nothing when they cannot be read."""
    try:
        return _decode_requests(headers.get("cdp-requests") or "[]")
    except msgspec.DecodeError:
        return []


def _zip_lines(
    source_id: str, requests: Sequence[RequestHeader], lines: Sequence[bytes]
) -> Iterator[LoggedLine]:
    ordinal = 0
    for request_id, received_at, sent_at, count in requests:
        for _ in range(count):
            yield LoggedLine(source_id, request_id, received_at, sent_at, ordinal, lines[ordinal])
            ordinal += 1
