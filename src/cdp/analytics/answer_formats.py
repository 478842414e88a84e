"""A query's rows as JSON, CSV, Arrow or Parquet. Pure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from cdp.runtime.clock import format_time
from cdp.runtime.spreadsheet import guard_formula

_LARGEST_EXACT = 2**53

Columns = Sequence[tuple[str, str]]


def to_records(columns: Columns, rows: pa.Table) -> list[dict[str, Any]]:
    """Return ``rows`` as JSON objects: times in RFC 3339, JSON and VARIANT as what they hold."""
    names = [name for name, _ in columns]
    lists = [
        [_read_json(value) if kind == "JSON" else to_json_value(value) for value in column]
        for (_, kind), column in zip(columns, _columns(rows), strict=True)
    ]
    return [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]


def to_csv(columns: Columns, rows: pa.Table) -> bytes:
    """Return ``rows`` as CSV in UTF-8; text that a spreadsheet would run gets an apostrophe."""
    return to_csv_header(columns) + to_csv_lines(columns, rows)


def to_csv_header(columns: Columns) -> bytes:
    """Return the line that names the columns."""
    return _write_csv([[guard_formula(name) for name, _ in columns]])


def to_csv_lines(columns: Columns, rows: pa.Table) -> bytes:
    """Return ``rows`` as lines of CSV, without the header."""
    lists = [
        [_to_cell(value, kind) for value in column]
        for (_, kind), column in zip(columns, _columns(rows), strict=True)
    ]
    return _write_csv(zip(*lists, strict=True))


def to_arrow(columns: Columns, rows: pa.Table) -> bytes:
    """Return ``rows`` as an Arrow IPC stream."""
    target = io.BytesIO()
    table = _named(columns, rows)
    with pa.ipc.new_stream(target, table.schema) as writer:
        writer.write_table(table)
    return target.getvalue()


def to_parquet(columns: Columns, rows: pa.Table) -> bytes:
    """Return ``rows`` as a Parquet file."""
    target = io.BytesIO()
    pq.write_table(_named(columns, rows), target, compression="zstd")
    return target.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Columns, pa.Table], bytes]]] = {
    "csv": ("text/csv; charset=utf-8", to_csv),
    "arrow": ("application/vnd.apache.arrow.stream", to_arrow),
    "parquet": ("application/vnd.apache.parquet", to_parquet),
}


def to_json_value(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; what has no number there becomes null or text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        is_whole = int(value.as_tuple().exponent) >= 0 if value.is_finite() else False
        return to_json_value(int(value)) if is_whole else to_json_value(float(value))
    if isinstance(value, datetime):
        return format_time(value) if value.tzinfo else value.isoformat(timespec="milliseconds")
    if isinstance(value, dict):
        return {str(key): to_json_value(inner) for key, inner in value.items()}
    if isinstance(value, pa.MonthDayNano):
        return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
    if isinstance(value, list | tuple):
        return [to_json_value(inner) for inner in value]
    return _to_text(value)


def _write_csv(lines: Iterable[Sequence[Any]]) -> bytes:
    target = io.StringIO()
    csv.writer(target, lineterminator="\r\n").writerows(lines)
    return target.getvalue().encode()


def _to_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | clock_time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    return str(value)


def _to_cell(value: Any, kind: str) -> Any:
    value = _read_json(value) if kind == "JSON" else to_json_value(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return guard_formula(value) if isinstance(value, str) else value


def _read_json(value: Any) -> Any:
    return None if value is None else json.loads(value, parse_float=_read_number)


def _read_number(text: str) -> float | None:
    """A number too large for a double is none in JSON either."""
    number = float(text)
    return number if math.isfinite(number) else None


def _columns(rows: pa.Table) -> list[list[Any]]:
    return [_to_list(column) for column in rows.columns]


def _to_list(column: pa.ChunkedArray) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        # A time beyond what Python knows, such as infinity.
        values = [_to_value(value) for value in column]
    return values


def _to_value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return None


def _named(columns: Columns, rows: pa.Table) -> pa.Table:
    return rows.rename_columns([name for name, _ in columns])
