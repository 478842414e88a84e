"""The verdict on posted records (orders), each by itself. Pure.

What a record means is not known here: whoever joins the stages says, per kind, which are taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from cdp.errors import BadRequest, Forbidden, Unprocessable
from cdp.ingest.lenient import (
    NON_FINITE,
    NotJson,
    add_flags,
    decode_leniently,
    encode,
    needs_cleaning,
)
from cdp.ingest.open_body import BYTE_ORDER_MARK, Opened
from cdp.ingest.parse import Judged, Rejection
from cdp.ingest.split import NoBatch, split_batch
from cdp.ingest.wire_event import UNREADABLE, decode_object
from cdp.log.format import Kind, join_lines
from cdp.model import Source

MOST_RECORDS = 1_000
MOST_BYTES = 256 * 1024
"""Of one record."""


class Verdict(NamedTuple):
    """What a kind says of a record. Without a ``code`` it is taken."""

    name: str | None
    """Its id, when it has one."""
    partition_by: str = ""
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RecordKind:
    """A kind of record that is posted to ``/v1/{list_name}``, which is also the list's name."""

    list_name: Kind
    id_name: str
    """The field by which a record of this kind is recognised."""
    judge: Callable[[Any], Verdict]
    has_list: bool = False
    """Whether GET of the same path lists them; somebody else answers that."""
    lacks_amount: Callable[[Any], bool] = lambda _: False
    """Whether a record in which NaN and Infinity became null lost an amount by it."""


def require_private_key(source: Source) -> None:
    """Raise ``Forbidden`` for the key of a web page or an app.

    Records outrank what browsers say of the same order, and anybody can read such a key.
    """
    if source.is_public:
        raise Forbidden(
            "public_key",
            "a web or app key lies in the open and cannot post records;"
            " use the key of a source of another type",
            details={"source_type": source.type},
        )


def open_records(body: bytes, kind: RecordKind, content_type: str) -> Opened:
    """Open a body: an object with the kind's list, or one record a line (NDJSON).

    Raises ``BadRequest`` when it is neither, ``Unprocessable`` for too many records.
    """
    list_name = kind.list_name
    body = body.removeprefix(BYTE_ORDER_MARK)
    opened = None if _says_lines(content_type) else _open_object(body, kind)
    if opened is None:
        opened = Opened([line for line in body.split(b"\n") if line.strip()])
    if not opened.items:
        raise BadRequest(f"empty_{list_name}", f"`{list_name}` must have at least one element")
    if len(opened.items) > MOST_RECORDS:
        raise Unprocessable(
            f"too_many_{list_name}",
            f"a request may have {MOST_RECORDS} {list_name}; send them in pieces",
            path=f"/{list_name}",
        )
    return opened


def _says_lines(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.endswith(("ndjson", "jsonl", "json-lines", "jsonlines"))


def _open_object(body: bytes, kind: RecordKind) -> Opened | None:
    """Open an object with the list; ``None`` when the body holds one record a line."""
    list_name = kind.list_name
    try:
        found = _decode_parts(body)
        if list_name not in found:
            _expect_lines(body, kind)
            return None
        items = _decode_items(found[list_name])
        return Opened(items, _decode_text(found.get("writeKey")))
    except UNREADABLE:
        pass
    try:
        items_found, rest = split_batch(body, list_name)
        value, _ = decode_leniently(rest)
        key = value.get("writeKey") if isinstance(value, dict) else None
        return Opened(items_found, key if isinstance(key, str) else None)
    except (NoBatch, NotJson):
        _expect_lines(body, kind)
        return None


def _expect_lines(body: bytes, kind: RecordKind) -> None:
    """Return when a body without the list begins with a line that is a record."""
    first = body.lstrip().partition(b"\n")[0].strip()
    if first.startswith(b"{") and first.endswith(b"}"):
        try:
            if kind.id_name in decode_object(first):
                return
        except UNREADABLE:
            pass
    raise BadRequest(
        f"no_{kind.list_name}",
        f"the body must be an object with a list `{kind.list_name}`,"
        " or have one of them a line and the content type application/x-ndjson",
    )


def judge_records(opened: Opened, kind: RecordKind, partitions: int) -> tuple[Judged, int]:
    """Judge every record of a request; return the outcome and about the bytes to be logged."""
    judged = Judged()
    bins: defaultdict[int, list[bytes]] = defaultdict(list)
    size = 0
    for index, item in enumerate(opened.items):
        raw = bytes(item).strip()
        try:
            line, verdict = _judge(raw, kind)
        except _Refused as refused:
            line, verdict = raw, refused.verdict
        if verdict.code:
            judged.rejected.append(
                Rejection(index, verdict.name, verdict.code, verdict.message, raw)
            )
        else:
            partition = crc32(verdict.partition_by.encode()) % partitions
            bins[partition].append(line)
        size += len(line)
    judged.joined = {partition: join_lines(lines) for partition, lines in bins.items()}
    judged.accepted = len(opened.items) - len(judged.rejected)
    return judged, size


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.verdict = Verdict(None, code=code, message=message)


def _judge(raw: bytes, kind: RecordKind) -> tuple[bytes, Verdict]:
    if len(raw) > MOST_BYTES:
        raise _Refused("record_too_large", f"one of {kind.list_name} may have {MOST_BYTES} bytes")
    line, document = _read(raw, kind)
    return line, kind.judge(document)


def _read(raw: bytes, kind: RecordKind) -> tuple[bytes, Any]:
    """Return a record's line for the log and what it says.

    What cannot be kept as it came is null or text instead, and the record is flagged as an event
    would be, in ``context.cdp.flags``.
    """
    if b"\n" not in raw and not needs_cleaning(raw):
        try:
            return raw, decode_object(raw)
        except UNREADABLE:
            pass
    try:
        document, flags = decode_leniently(raw)
        if NON_FINITE in flags and kind.lacks_amount(document):
            raise _Refused("invalid_number", "NaN and Infinity are no amounts")
        if isinstance(document, dict):
            add_flags(document, flags)
        return encode(document), document
    except NotJson as error:
        raise _Refused("invalid_json", f"this is not JSON: {error}") from error
    except RecursionError as error:
        raise _Refused("too_deep", "this is nested too deeply") from error


_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _decode_text(raw: msgspec.Raw | None) -> str | None:
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str) else None
