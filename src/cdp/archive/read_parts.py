"""Rows of some nodes out of the files, without reading the files."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.layout import SCHEMA, Part

_NODE = SCHEMA.get_field_index("node_id")


def list_groups(file: pq.ParquetFile, nodes: Sequence[int]) -> list[int]:
    """Return the row groups of a file that may hold any of ``nodes``, which are in order."""
    footer = file.metadata
    found: list[int] = []
    for number in range(footer.num_row_groups):
        known = footer.row_group(number).column(_NODE).statistics
        if known is None or not known.has_min_max:
            continue
        place = bisect_left(nodes, known.min)
        if place < len(nodes) and nodes[place] <= known.max:
            found.append(number)
    return found


def read_nodes(
    folder: ArchiveFolder, part: Part, nodes: Sequence[int], columns: Sequence[str]
) -> pa.Table:
    """Return the rows of ``nodes``, which are in order. Raises ``FileNotFoundError``."""
    wanted = pa.array(nodes, pa.int64())
    file = folder.open(part.path)
    tables = []
    for group in list_groups(file, nodes):
        keys = file.read_row_group(group, columns=["node_id"]).column("node_id")
        mask = pc.is_in(keys, value_set=wanted)
        if pc.any(mask).as_py():
            tables.append(file.read_row_group(group, columns=list(columns)).filter(mask))
    if not tables:
        return pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
    return pa.concat_tables(tables).select(list(columns))


def iterate_rows(folder: ArchiveFolder, path: str) -> Iterator[pa.RecordBatch]:
    """Give all rows of a file, group by group."""
    file = folder.open(path)
    for group in range(file.metadata.num_row_groups):
        yield from file.read_row_group(group).to_batches()
