"""File destinations: a file per delivery, whole or not at all, below one folder.

A delivery that is written again replaces its own file. Names sort in the order of deliveries.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from cdp.activation.delivery import Delivery
from cdp.activation.retry import Attempt
from cdp.runtime.spreadsheet import guard_formula

_FIXED = ("key", "change", "segment", "tag", "profile_id", "at", "cause", "entered_at", "value")
_DEFAULT_FORMAT = "csv"

Cell = str | None


def drop_file(
    root: Path, settings: Mapping[str, Any], fields: Sequence[str], delivery: Delivery
) -> Attempt:
    """Write ``delivery`` as one file below ``root``; ``fields`` are its last columns."""
    try:
        folder = _make_folder(root, settings["path"])
        content = write_rows(settings, delivery.rows, fields)
        write_whole(folder / name_file(settings, delivery), content)
    except OSError as error:
        return Attempt(False, error=f"the file could not be written: {error.strerror or error}")
    return Attempt(True)


def name_file(settings: Mapping[str, Any], delivery: Delivery) -> str:
    """Return what the file of ``delivery`` is called; names sort in the order of deliveries."""
    format = settings.get("format", _DEFAULT_FORMAT)
    return f"{delivery.number:012d}-{delivery.delivery_id}.{format}"


def write_rows(
    settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], fields: Sequence[str]
) -> bytes:
    """Return ``rows`` in the format of ``settings``; ``fields`` are the last columns."""
    return _WRITERS[settings.get("format", _DEFAULT_FORMAT)](rows, fields)


def _make_folder(root: Path, path: str) -> Path:
    """Return the folder ``path`` below ``root``; raise ``OSError`` when a link leads out of it."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.resolve().is_relative_to(root.resolve()):
        raise PermissionError(1, "a link leads out of the folder of destinations")
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it, so that nobody ever sees a part of it."""
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_ndjson(rows: Sequence[Mapping[str, Any]], _: Sequence[str]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _write_csv(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*_FIXED, *map(guard_formula, fields)])
    for row in rows:
        writer.writerow([guard_formula(cell or "") for cell in _list_cells(row, fields)])
    return text.getvalue().encode()


def _write_parquet(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> bytes:
    cells = [_list_cells(row, fields) for row in rows]
    schema = pa.schema([(name, pa.string()) for name in (*_FIXED, *fields)])
    columns = [pa.array([row[index] for row in cells], pa.string()) for index in range(len(schema))]
    sink = io.BytesIO()
    pa_parquet.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd")
    return sink.getvalue()


_WRITERS: dict[str, Callable[[Sequence[Mapping[str, Any]], Sequence[str]], bytes]] = {
    "ndjson": _write_ndjson,
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def _list_cells(row: Mapping[str, Any], fields: Sequence[str]) -> list[Cell]:
    values = row.get("fields", {})
    return [
        *(_write_cell(row.get(name)) for name in _FIXED),
        *(_write_cell(values.get(name)) for name in fields),
    ]


def _write_cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
