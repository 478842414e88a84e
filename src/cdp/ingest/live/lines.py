"""From a log record to what somebody who watches sees of its lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from cdp.ingest.lenient import NotJson, decode_leniently, encode
from cdp.ingest.read_line import read_line
from cdp.ingest.refused_lines import read_rejected
from cdp.ingest.rejected_store import mask_raw
from cdp.log.format import LoggedLine, RejectedLine, unpack_record
from cdp.log.port import Record
from cdp.model import Source
from cdp.storage.ledger import key_message
from cdp.storage.outcomes_store import key_refused

_MOST_TEXT = 4096
"""Characters of a line that are shown."""

NameRecord = Callable[[str, LoggedLine, Record, Source], str | None]
"""From a posted record (kind, line, where it lies, whose) to the id that it counts under."""


class SeenLine(NamedTuple):
    """One line on its way, as far as it is needed to find out what becomes of it."""

    source_id: str
    partition: int
    offset: int
    message_id: str | None
    message_key: bytes | None
    """Its key in the ledger; ``None`` when the door refused it."""
    refused_key: bytes
    """Its key among the refused ones, should it be refused."""
    shown: Mapping[str, Any]


def see_lines(
    record: Record, source: Source, name_record: NameRecord, *, most: int
) -> Iterator[tuple[SeenLine, bytes]]:
    """Give the first ``most`` lines of ``record`` with their bytes.

    Raises ``UnknownFormat`` when nobody can read the record.
    """
    kind, lines = unpack_record(record)
    for line in lines[:most]:
        if kind == "rejected":
            yield _see_refused(record, line)
        else:
            yield _see_line(record, kind, line, source, name_record), line.line


def _see_refused(record: Record, line: LoggedLine) -> tuple[SeenLine, bytes]:
    refused = read_rejected(record, line)
    shown = _describe(refused.kind, refused.message_id, refused.raw, line)
    if refused.route_type is not None:
        shown["type"] = refused.route_type
    assert refused.key is not None
    seen = SeenLine(
        line.source_id,
        record.partition,
        record.offset,
        refused.message_id,
        None,
        refused.key,
        shown,
    )
    return seen, refused.raw


def _see_line(
    record: Record, kind: str, line: LoggedLine, source: Source, name_record: NameRecord
) -> SeenLine:
    message_id = _find_message_id(record, kind, line, source, name_record)
    place = f"{record.partition}/{line.ordinal}"
    return SeenLine(
        line.source_id,
        record.partition,
        record.offset,
        message_id,
        None if message_id is None else key_message(line.source_id, message_id),
        key_refused(line.source_id, line.request_id, place, line.line),
        _describe(kind, message_id, line.line, line),
    )


def _find_message_id(
    record: Record, kind: str, line: LoggedLine, source: Source, name_record: NameRecord
) -> str | None:
    try:
        if kind != "events":
            return name_record(kind, line, record, source)
        read = read_line(line, source, lambda _: ())
    except Exception:  # whatever it is, the worker meets it too and refuses the line
        return None
    return None if isinstance(read, RejectedLine) else read.message_id


def _describe(kind: str, message_id: str | None, raw: bytes, line: LoggedLine) -> dict[str, Any]:
    try:
        document: Any = decode_leniently(raw)[0]
    except (NotJson, RecursionError):
        document = None
    said = document if isinstance(document, dict) else {}
    shown: dict[str, Any] = {"kind": kind, "messageId": message_id, "received_at": line.received_at}
    for name in ("type", "event", "name", "order_id", "account_id"):
        if isinstance(said.get(name), str) and (kind == "events" or name.endswith("_id")):
            shown[name] = said[name]
    return shown


def show_raw(raw: bytes, *, sees_personal: bool) -> dict[str, Any]:
    """Return the text of a line as it is shown: masked unless personal values may be seen."""
    text = raw.decode("utf-8", "replace") if sees_personal else mask_raw(raw)
    if len(text) > _MOST_TEXT:
        return {"raw": text[:_MOST_TEXT], "raw_truncated": True}
    return {"raw": text}


def write_frame(document: Mapping[str, Any]) -> bytes:
    """Return one message of a stream of server-sent events (WHATWG HTML, 9.2)."""
    return b"data: " + encode(dict(document)) + b"\n\n"
