"""Lines of the embedded log: blanked in place, so that every count and offset stays as it was."""

from __future__ import annotations

from typing import Any

import msgspec

from cdp.log.format import ERASED, RejectedLine
from cdp.privacy.traces import Traces
from cdp.storage.database import Database, driver

_PIECE_RECORDS = 500
# A log of this size is not read by this process as a whole: the server looks first.
_LARGE_BYTES = 256 * 1024 * 1024
_MOST_PATTERNS = 2000

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)
  FROM pg_partition_tree('log_records') WHERE isleaf
"""
# As the server prints bytes: what is not ASCII in octal. Refused lines travel as base64, and an
# escaped letter may be anybody's, so these are always read.
_MENTIONS = """
AND (headers ->> 'cdp-kind' = 'rejected' OR position('\\\\u'::bytea IN value) > 0
     OR encode(value, 'escape') ILIKE ANY(%(patterns)s::text[]))
"""

_decode_rejected = msgspec.json.Decoder(RejectedLine).decode
_encode = msgspec.json.Encoder().encode
_BLANK_REFUSAL = _encode(RejectedLine("suppressed", "erased", b""))


def blank_log(database: Database, traces: Traces) -> tuple[int, set[str]]:
    """Blank every line that holds a trace; return how many, and in which parts of the table."""
    patterns = traces.list_texts()
    with database.transaction() as connection:
        size = driver(connection).execute(_SIZE).fetchone()
    assert size is not None
    is_large = int(size[0]) > _LARGE_BYTES and len(patterns) <= _MOST_PATTERNS
    where = _MENTIONS if is_large else ""
    parameters = {"patterns": [make_pattern(text) for text in patterns], "limit": _PIECE_RECORDS}
    after, blanked = (-1, -1), 0
    parts: set[str] = set()
    while True:
        with database.transaction() as connection:
            tx = driver(connection)
            rows: list[tuple[Any, ...]] = tx.execute(
                f"""SELECT partition, record_offset, written_at, headers ->> 'cdp-kind', value,
                           tableoid::regclass::text
                      FROM log_records
                     WHERE (partition, record_offset) > (%(partition)s, %(offset)s) {where}
                     ORDER BY partition, record_offset LIMIT %(limit)s""",
                {**parameters, "partition": after[0], "offset": after[1]},
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


def make_pattern(text: str) -> str:
    """Return a pattern for ILIKE that finds ``text`` in bytes as the server prints them."""
    printed = "".join(
        chr(byte) if byte < 0x80 else f"\\{byte:03o}" for byte in text.encode("utf-8", "replace")
    )
    literal = printed.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{literal}%"


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
        if line != blank and any(traces.are_in(part) for part in _list_parts(kind, line)):
            lines[position] = blank
            count += 1
    return b"\n".join(lines), count


def _list_parts(kind: str, line: bytes) -> list[bytes]:
    """Return what to look through: the bytes of refused lines travel as base64."""
    if kind != "rejected":
        return [line]
    try:
        refused = _decode_rejected(line)
    except (msgspec.DecodeError, ValueError):
        return [line]
    return [line, refused.raw, refused.shared or b""]
