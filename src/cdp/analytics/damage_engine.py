"""A DuckDB file whose damage shows itself in use: remembered beside the file, so that the next

start drops it. Everything in it comes from Postgres and is fed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb

from cdp.runtime.logs import get_logger

_log = get_logger(__name__)

_SIGNS = ("corrupt database file", "could not read enough bytes", "failed to deserialize")


def list_causes(error: BaseException | None) -> Iterator[duckdb.Error]:
    """Return what DuckDB said: clean-up after a failure may fail too, and hide the first."""
    while error is not None:
        if isinstance(error, duckdb.Error):
            yield error
        error = error.__cause__ or error.__context__


def is_damage(error: duckdb.Error) -> bool:
    """Whether a statement met a spoiled part of the file.

    By class as well as by words: a statement can choose the words of other errors.
    """
    has_class = type(error) is duckdb.Error or isinstance(
        error, duckdb.IOException | duckdb.SerializationException | duckdb.FatalException
    )
    return has_class and any(sign in str(error).lower() for sign in _SIGNS)


def ends_use(error: duckdb.Error) -> bool:
    """Whether DuckDB answers nothing more until the file is opened by another process."""
    return isinstance(error, duckdb.FatalException | duckdb.InternalException)


def condemn(path: Path, error: duckdb.Error) -> None:
    """Remember that the file at ``path`` is damaged."""
    mark = _mark(path)
    if mark.exists():
        return
    _log.error("analytics_file_damaged", reason=str(error).splitlines()[0])
    mark.touch()


def drop_condemned(path: Path) -> None:
    """Remove the file at ``path`` when it was condemned."""
    mark = _mark(path)
    if not mark.exists():
        return
    _log.warning("analytics_file_dropped", consequence="everything is fed again from Postgres")
    for file in (path, Path(f"{path}.wal"), mark):
        file.unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    return Path(f"{path}.damaged")
