"""Read Parquet in batches; what was read before a break is skipped by row group."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cdp.ingest.imports.reading import BLOCK_BYTES, FileDamaged, refuse_file

_BATCH_ROWS = 4_000


class ParquetFile:
    """Rows of a Parquet file. Nested columns are objects and lists."""

    format = "parquet"
    is_typed = True

    def __init__(self, path: Path, inflating: Any = None) -> None:
        """``inflating`` gives the content of a file that was compressed as a whole.

        Raises ``Unprocessable`` when it is no Parquet.
        """
        self._inflated: Any = None
        try:
            if inflating is not None:
                # Parquet is read from its end, so it must lie on disk as it is.
                self._inflated = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
                shutil.copyfileobj(inflating, self._inflated, BLOCK_BYTES)
            self._file = pq.ParquetFile(self._inflated or str(path), buffer_size=BLOCK_BYTES)
        except (pa.ArrowException, OSError, FileDamaged) as error:
            raise refuse_file(f"the file cannot be read as Parquet: {error}"[:500]) from error
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self.total_rows: int | None = self._file.metadata.num_rows
        self._read = 0

    def rows(self, after: int = 0) -> Iterator[Sequence[Any]]:
        """Yield the cells of the rows behind the first ``after``."""
        groups, skipped = self._find_groups(after)
        self._read = skipped
        return islice(self._rows(groups), after - skipped, None)

    def _find_groups(self, after: int) -> tuple[list[int], int]:
        """Return the row groups to read, and how many rows lie before them."""
        skipped = 0
        groups = range(self._file.num_row_groups)
        for group in groups:
            size = self._file.metadata.row_group(group).num_rows
            if skipped + size > after:
                return list(groups[group:]), skipped
            skipped += size
        return [], skipped

    def _rows(self, groups: list[int]) -> Iterator[Sequence[Any]]:
        if not groups:
            return
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=groups, use_threads=False):
                self._read += batch.num_rows
                # By column: Arrow makes a list of values far faster than a row of them.
                yield from zip(*(read_column(column) for column in batch.columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            raise FileDamaged(f"the Parquet data is damaged: {error}"[:500]) from error

    def share_read(self) -> float:
        """Return how much of the file has been read, 0 to 1."""
        return min(1.0, self._read / max(1, self.total_rows or 1))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._inflated is not None:
            self._inflated.close()


def read_column(column: pa.Array) -> list[Any]:
    """Return the values of a column; times finer than Python's are cut to microseconds."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return read_column(column.dictionary_decode())
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values
