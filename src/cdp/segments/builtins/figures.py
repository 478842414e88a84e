"""What built-in tags compute with: columns of numbers, and what comes out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

Status = Literal["ready", "not_enough_data"]


@dataclass(frozen=True, slots=True)
class Computed:
    """What one computation of a built-in tag came to."""

    values: pa.Table
    """Columns ``profile_no`` and ``value``: whoever is missing has no value."""
    status: Status = "ready"
    summary: Mapping[str, Any] | None = None
    model: Mapping[str, Any] | None = None
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """The part that belongs to the population (cuts, parameters), as JSON: with it the values of
    a few people can be computed without the others."""


def lack(what: str, have: float | None, needed: float | None, message: str = "") -> dict[str, Any]:
    """Return what there is too little of: what, how much there is, how much is needed, in words.

    Numbers are ``None`` where the lack cannot be counted.
    """
    message = message or f"{have} of {needed} {what}"
    return {"what": what, "have": have, "needed": needed, "message": message}


def no_values() -> pa.Table:
    """Return the table of nobody's values."""
    return pa.table({"profile_no": pa.array([], pa.int64()), "value": pa.array([], pa.string())})


def values_table(profile_no: Whole, columns: Mapping[str, Any]) -> pa.Table:
    """Return the values as objects with ``columns`` as fields; NaN becomes null."""
    arrays = [
        column
        if isinstance(column, (pa.Array, pa.ChunkedArray))
        else pa.array(column, from_pandas=True)
        for column in columns.values()
    ]
    arrays = [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in arrays]
    value = pa.StructArray.from_arrays(arrays, names=list(columns))
    return pa.table({"profile_no": pa.array(profile_no, pa.int64()), "value": value})


def count_values(names: Any) -> dict[str, int]:
    """Return how often each name occurs, most first, then by name."""
    found, counts = np.unique(np.asarray(names, dtype=str), return_counts=True)
    pairs = sorted(zip(found.tolist(), counts.tolist(), strict=True), key=lambda p: (-p[1], p[0]))
    return dict(pairs)
