"""Arrow tables that DuckDB's SQL sees for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb
import pyarrow as pa


@contextmanager
def registered(
    duck: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | pa.RecordBatchReader
) -> Iterator[None]:
    """Let statements of ``duck`` know ``rows`` as ``name`` while the block runs."""
    # A statement before it, or the last one in it, may not have run to its end.
    duck.complete()
    duck.register(name, rows)
    try:
        yield
        duck.complete()
    except BaseException:
        # The transaction may take no statement any more; what failed must be told, not this.
        with suppress(duckdb.Error):
            duck.unregister(name)
        raise
    duck.unregister(name)
