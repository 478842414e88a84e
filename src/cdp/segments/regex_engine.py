"""Regular expressions as DuckDB reads them (RE2), for the parts that are not SQL."""

from __future__ import annotations

import threading
from functools import lru_cache

import duckdb

_lock = threading.Lock()


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"threads": 1})


def _matches(pattern: str, text: str) -> bool:
    with _lock:
        row = _connection().execute("SELECT regexp_matches($1, $2)", [text, pattern]).fetchone()
    return bool(row and row[0])


def pattern_error(pattern: str) -> str | None:
    """Return why RE2 refuses ``pattern``; ``None`` when it takes it."""
    try:
        _matches(pattern, "")
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return None


def search(pattern: str, text: str) -> bool:
    """Whether ``pattern`` occurs anywhere in ``text``; raises ``duckdb.Error`` for a bad one."""
    return _matches(pattern, text)
