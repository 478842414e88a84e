"""Rows of a running statement, batch by batch; failures are DuckDB's own.

Arrow reads them from DuckDB, and turns what ends a statement in the middle into an ``OSError``.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

_KINDS = (
    ("INTERRUPT Error", duckdb.InterruptException),
    ("Out of Memory Error", duckdb.OutOfMemoryException),
    ("FATAL Error", duckdb.FatalException),
    ("INTERNAL Error", duckdb.InternalException),
)


def read_batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of ``reader``. Raises a ``duckdb.Error`` for what DuckDB says."""
    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        text = str(error).strip()
        for start, kind in _KINDS:
            if text.startswith(start):
                raise kind(text) from error
        raise duckdb.Error(text) from error
