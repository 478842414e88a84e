"""Lines of the embedded log: blanked in place, so that every count and offset stays as it was."""

from __future__ import annotations

from typing import Any

import msgspec

from cdp.log.format import ERASED, RejectedLine
from cdp.privacy.traces import Traces
from cdp.storage.database import Database, driver

_PIECE_RECORDS = 500

_decode_rejected = msgspec.json.Decoder(RejectedLine).decode
_encode = msgspec.json.Encoder().encode
_BLANK_REFUSAL = _encode(RejectedLine("suppressed", "erased", b""))


def blank_log(database: Database, traces: Traces) -> tuple[int, set[str]]:
    """Blank every line that holds a trace; return how many, and in which parts of the table.

    Records of all days are read.
    """
    after, blanked = (-1, -1), 0
    parts: set[str] = set()
    while True:
        with database.transaction() as connection:
            tx = driver(connection)
            rows: list[tuple[Any, ...]] = tx.execute(
                """SELECT partition, record_offset, written_at, headers ->> 'cdp-kind', value,
                          tableoid::regclass::text
                     FROM log_records WHERE (partition, record_offset) > (%s, %s)
                    ORDER BY partition, record_offset LIMIT %s""",
                (*after, _PIECE_RECORDS),
            ).fetchall()
            for partition, offset, written_at, kind, value, part in rows:
                rewritten, count = blank_lines(kind or "", value, traces)
                if count:
                    tx.execute(
                        """UPDATE log_records SET value = %s
                            WHERE partition = %s AND record_offset = %s AND written_at = %s""",
                        (rewritten, partition, offset, written_at),
                    )
                    blanked += count
                    parts.add(part)
        if not rows:
            return blanked, parts
        after = rows[-1][:2]


def blank_lines(kind: str, value: bytes, traces: Traces) -> tuple[bytes, int]:
    """Return a record's value without the lines that hold a trace, and how many there were."""
    # Most records hold none, which is found out once for all lines; unless lines must be parsed.
    must_parse = kind == "rejected" or traces.are_short or b"\\" in value
    if not must_parse and not traces.are_in(value):
        return value, 0
    lines = value.split(b"\n") if value else []
    blank = _BLANK_REFUSAL if kind == "rejected" else ERASED
    count = 0
    for position, line in enumerate(lines):
        if line != blank and traces.are_in(_read(kind, line)):
            lines[position] = blank
            count += 1
    return b"\n".join(lines), count


def _read(kind: str, line: bytes) -> bytes:
    """Return what to look through: the bytes of refused lines travel as base64."""
    if kind != "rejected":
        return line
    try:
        refused = _decode_rejected(line)
    except (msgspec.DecodeError, ValueError):
        return line
    return b"\n".join([line, refused.raw, refused.shared or b""])
