"""Rows of members as JSON, NDJSON, CSV or Parquet. Pure: tables come in, bytes go out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from cdp.access.masking import mask_identifier, mask_traits, mask_value
from cdp.runtime.clock import format_time
from cdp.runtime.drain import Drain
from cdp.runtime.spreadsheet import guard_formula
from cdp.segments.member_fields import FIXED_COLUMNS, MemberField

Format = Literal["json", "ndjson", "csv", "parquet"]
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Row = tuple[str, datetime, list[Any]]
"""Profile id, when it entered, and a JSON value per field; ``None`` where absent."""


def read_rows(chunk: pa.Table, fields: Sequence[MemberField], *, is_masked: bool) -> Iterator[Row]:
    """Yield the rows of a chunk (see ``members_engine.read_page``), masked where asked."""
    columns = [
        _read_values(chunk[f"f{index}"].to_pylist(), field, is_masked=is_masked)
        for index, field in enumerate(fields)
    ]
    fixed = (chunk[name].to_pylist() for name in FIXED_COLUMNS)
    for profile_id, entered_at, *values in zip(*fixed, *columns, strict=True):
        yield profile_id, entered_at, values


def show_row(row: Row, fields: Sequence[MemberField]) -> dict[str, Any]:
    """Return a row as a JSON object with columns called as in ``fields``."""
    profile_id, entered_at, values = row
    shown = {"profile_id": profile_id, "entered_at": format_time(entered_at)}
    return shown | {field.column: value for field, value in zip(fields, values, strict=True)}


def write_ndjson(
    chunks: Iterable[pa.Table], fields: Sequence[MemberField], *, is_masked: bool
) -> Iterator[bytes]:
    """Yield the rows as JSON lines."""
    for chunk in chunks:
        rows = read_rows(chunk, fields, is_masked=is_masked)
        yield b"".join(_encode(show_row(row, fields)) + b"\n" for row in rows)


def write_csv(
    chunks: Iterable[pa.Table], fields: Sequence[MemberField], *, is_masked: bool
) -> Iterator[bytes]:
    """Yield the rows as CSV (RFC 4180, UTF-8) under a line of headers; absent values are empty."""
    header = [guard_formula(name) for name in (*FIXED_COLUMNS, *(f.column for f in fields))]
    yield _write_lines([header])
    for chunk in chunks:
        rows = read_rows(chunk, fields, is_masked=is_masked)
        yield _write_lines(
            [profile_id, format_time(entered_at), *map(write_cell, values)]
            for profile_id, entered_at, values in rows
        )


def write_parquet(
    chunks: Iterable[pa.Table], fields: Sequence[MemberField], *, is_masked: bool
) -> Iterator[bytes]:
    """Yield the rows as one Parquet file, a row group per chunk. Fields are text."""
    schema = pa.schema(
        [
            pa.field("profile_id", pa.string(), nullable=False),
            pa.field("entered_at", pa.timestamp("us", "UTC"), nullable=False),
            *(pa.field(field.column, pa.string()) for field in fields),
        ]
    )
    sink = Drain()
    with pa_parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for chunk in chunks:
            rows = list(read_rows(chunk, fields, is_masked=is_masked))
            writer.write_table(_as_text_table(rows, schema))
            yield sink.take()
    yield sink.take()


WRITERS: dict[str, Callable[..., Iterator[bytes]]] = {
    "ndjson": write_ndjson,
    "csv": write_csv,
    "parquet": write_parquet,
}


def write_cell(value: Any) -> str:
    """Return a JSON value as the text of a CSV cell."""
    return guard_formula(value) if isinstance(value, str) else write_text(value) or ""


def write_text(value: Any) -> str | None:
    """Return a JSON value as text: text as it is, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _as_text_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    columns: list[list[Any]] = [[row[0] for row in rows], [row[1] for row in rows]]
    for index in range(len(schema) - len(FIXED_COLUMNS)):
        columns.append([write_text(row[2][index]) for row in rows])
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _read_values(texts: Sequence[str | None], field: MemberField, *, is_masked: bool) -> list[Any]:
    values = [None if text is None else _decode(text) for text in texts]
    if not is_masked:
        return values
    if field.kind == "tag":
        return [mask_value(value) for value in values]
    if field.kind == "identifier":
        return [None if value is None else mask_identifier(field.key, value) for value in values]
    # Under its whole path, so that a step that is personal hides what lies below it.
    name = ".".join((field.key, *field.path))
    return [mask_traits({name: value})[name] for value in values]


def _write_lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
