"""Values of a tag as JSON, NDJSON, CSV or Parquet. Pure: rows come in, bytes go out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pa_parquet

from cdp.runtime.clock import format_time
from cdp.runtime.drain import Drain
from cdp.runtime.spreadsheet import guard_formula
from cdp.segments.export import write_cell, write_text
from cdp.segments.member_fields import MemberField
from cdp.segments.tag_pull import PulledValue

_COLUMNS = ("profile_id", "value", "at", "version")
_TYPES = (pa.string(), pa.string(), pa.timestamp("us", "UTC"), pa.int32())

Chunks = Iterable[list[PulledValue]]
Fields = Sequence[MemberField]


def show_value(row: PulledValue, fields: Fields) -> dict[str, Any]:
    """Return a row as a JSON object, its fields called as they were asked for."""
    shown = {
        "profile_id": row.held.profile_id,
        "value": json.loads(row.held.value),
        "at": format_time(row.held.at),
        "version": row.held.version,
    }
    return shown | {field.column: one for field, one in zip(fields, row.fields, strict=True)}


def _write_ndjson(chunks: Chunks, fields: Fields) -> Iterator[bytes]:
    for rows in chunks:
        lines = (json.dumps(show_value(row, fields), ensure_ascii=False) + "\n" for row in rows)
        yield "".join(lines).encode()


def _write_csv(chunks: Chunks, fields: Fields) -> Iterator[bytes]:
    yield _write_lines([[*_COLUMNS, *(guard_formula(field.column) for field in fields)]])
    for rows in chunks:
        yield _write_lines(
            [
                row.held.profile_id,
                write_cell(json.loads(row.held.value)),
                format_time(row.held.at),
                row.held.version,
                *map(write_cell, row.fields),
            ]
            for row in rows
        )


def _write_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _write_parquet(chunks: Chunks, fields: Fields) -> Iterator[bytes]:
    names = [*_COLUMNS, *(field.column for field in fields)]
    types = [*_TYPES, *(pa.string() for _ in fields)]
    schema = pa.schema(list(zip(names, types, strict=True)))
    sink = Drain()
    with pa_parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for rows in chunks:
            columns = zip(*map(_list_cells, rows), strict=True)
            arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            yield sink.take()
    yield sink.take()


def _list_cells(row: PulledValue) -> list[Any]:
    held = row.held
    value = write_text(json.loads(held.value)) or ""
    return [held.profile_id, value, held.at, held.version, *map(write_text, row.fields)]


WRITERS: dict[str, Callable[[Chunks, Fields], Iterator[bytes]]] = {
    "ndjson": _write_ndjson,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
