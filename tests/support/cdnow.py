"""CDNOW: the purchases of 2,357 customers whose published parameters models are checked against.

The files come with the package ``lifetimes``; its code, made for older numpy, is not loaded.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Purchase(NamedTuple):
    customer: int
    at: datetime
    cents: int


def read_customers() -> dict[str, Any]:
    """Return x, t_x, T (weeks) and the mean repeat value of each customer in 39 weeks."""
    with (_folder() / "cdnow_customers_summary_with_transactions.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: np.array([float(row[name]) for row in rows]) for name in ("x", "t_x", "T", "zbar")
    }


def read_purchases() -> Iterator[Purchase]:
    """Yield every purchase of 1997 and 1998."""
    for line in (_folder() / "CDNOW_sample.txt").read_text().splitlines():
        _, customer, day, _, value = line.split()
        at = datetime.strptime(day, "%Y%m%d").replace(hour=12, tzinfo=UTC)
        yield Purchase(int(customer), at, int(Decimal(value) * 100))


def _folder() -> Path:
    spec = find_spec("lifetimes")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets"
