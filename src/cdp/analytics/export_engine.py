"""Whole tables as streams, at flat memory however large they are: NDJSON, CSV, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from cdp.analytics import catalogue
from cdp.analytics.answer_formats import Columns, to_csv_header, to_csv_lines, to_records
from cdp.analytics.batches_engine import read_batches
from cdp.analytics.engine import Engine, select
from cdp.analytics.query import Schema, show_plainly
from cdp.analytics.quote import quote_name
from cdp.errors import NotFound
from cdp.runtime.drain import Drain

ExportFormat = Literal["ndjson", "csv", "parquet", "arrow"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
_BATCH_ROWS = 10_000

Parts = Iterator[bytes]
Batches = Iterable[pa.RecordBatch]


def export_table(
    engine: Engine,
    table: str,
    schema: Schema,
    format: ExportFormat,
    *,
    note: Callable[[int], None],
) -> Parts:
    """Yield ``table`` as one file in ``format``; it is of one moment, the beginning.

    ``note`` is told of each batch of rows, as it goes out, how many it has.
    The first part is made at once, so that what fails is an answer and not a broken stream. Raises
    ``NotFound`` for a table that ``GET /v1/schema`` does not list.
    """
    parts = _read(engine, table, schema, format, note)
    first = next(parts, b"")
    return chain([first], parts)


def _read(
    engine: Engine, table: str, schema: Schema, format: ExportFormat, note: Callable[[int], None]
) -> Parts:
    with engine.cursor(roams=True) as duck:
        duck.execute(f"SET search_path = '{schema}'")
        duck.execute("BEGIN TRANSACTION READ ONLY")
        if table not in catalogue.list_tables(duck, schema):
            raise NotFound("table_not_found", f"there is no table {table}; GET /v1/schema")
        relation, columns = show_plainly(select(duck, f"SELECT * FROM {quote_name(table)}"))
        reader = relation.to_arrow_reader(_BATCH_ROWS)
        yield from _WRITERS[format](columns, reader.schema, _count(read_batches(reader), note))


def _count(batches: Batches, note: Callable[[int], None]) -> Batches:
    for batch in batches:
        note(batch.num_rows)
        yield batch


def _write_ndjson(columns: Columns, schema: pa.Schema, batches: Batches) -> Parts:
    for batch in batches:
        records = to_records(columns, pa.Table.from_batches([batch]))
        yield b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def _write_csv(columns: Columns, schema: pa.Schema, batches: Batches) -> Parts:
    yield to_csv_header(columns)
    for batch in batches:
        yield to_csv_lines(columns, pa.Table.from_batches([batch]))


def _write_parquet(columns: Columns, schema: pa.Schema, batches: Batches) -> Parts:
    drain = Drain()
    with pa_parquet.ParquetWriter(drain, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield drain.take()
    yield drain.take()


def _write_arrow(columns: Columns, schema: pa.Schema, batches: Batches) -> Parts:
    drain = Drain()
    with pa.ipc.new_stream(drain, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield drain.take()
    yield drain.take()


_WRITERS: dict[ExportFormat, Callable[[Columns, pa.Schema, Batches], Parts]] = {
    "ndjson": _write_ndjson,
    "csv": _write_csv,
    "parquet": _write_parquet,
    "arrow": _write_arrow,
}
