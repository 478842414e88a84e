"""What every reader of a file's rows offers, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from cdp.errors import Unprocessable

BLOCK_BYTES = 1024 * 1024


class FileDamaged(Exception):
    """The rest of the file cannot be read: cut off, or not what its beginning says."""


class RowFile(Protocol):
    """A file of rows. Opened by one thread."""

    @property
    def format(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the cells, ``None`` when rows are lines of JSON."""
        ...

    @property
    def is_typed(self) -> bool:
        """Whether cells have types rather than all being text."""
        ...

    @property
    def total_rows(self) -> int | None:
        """Known before reading for Parquet only."""
        ...

    def rows(self, after: int = 0) -> Iterator[Any]:
        """Yield the rows behind the first ``after``: cells, lines, or ``BadRow``.

        Raises ``FileDamaged``.
        """
        ...

    def share_read(self) -> float:
        """Return how much of the file has been read, 0 to 1."""
        ...

    def close(self) -> None: ...


def refuse_file(message: str) -> Unprocessable:
    """Return the error for a file that is not what an import takes."""
    return Unprocessable("unreadable_file", message, path="/file")
