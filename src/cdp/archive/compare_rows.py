"""Whether two streams of rows are the same, value by value. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

_SLICE = 8192


def count_equal(ours: Iterable[pa.RecordBatch], theirs: Iterable[pa.RecordBatch]) -> int | None:
    """Return how many rows both have; ``None`` when they differ anywhere."""
    left, right = _slices(ours), _slices(theirs)
    rows = 0
    while True:
        one, other = next(left, None), next(right, None)
        if one is None or other is None:
            return rows if one is other else None
        if not one.equals(other):
            return None
        rows += one.num_rows


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Give the rows again, always as many at a time."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= _SLICE:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, _SLICE).combine_chunks()
            waiting = table.slice(_SLICE).to_batches()
            count -= _SLICE
    if count:
        yield pa.Table.from_batches(waiting).combine_chunks()
