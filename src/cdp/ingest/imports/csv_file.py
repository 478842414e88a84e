"""Read CSV: quoted newlines, any delimiter, UTF-8, UTF-16 or GB18030.

Python's own reader rather than pyarrow's, which is faster but ends at the first ragged line and
cannot say which row that was; here such a row is refused by itself. Mapping a row takes several
times as long as reading it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from cdp.ingest.imports.chunks import BadRow
from cdp.ingest.imports.ndjson_file import Source
from cdp.ingest.imports.reading import BLOCK_BYTES, FileDamaged, refuse_file

LONGEST_CELL = 1024 * 1024
_LONGEST_LINE = 8 * LONGEST_CELL
_DELIMITERS = (",", "\t", ";", "|", "，")
_MOST_COLUMNS = 2_000


class CsvFile:
    """Rows of a CSV file with a header."""

    format = "csv"
    is_typed = False
    total_rows = None

    def __init__(self, source: Any, encoding: str, delimiter: str | None = None) -> None:
        """Read the header. ``delimiter`` is found in it when none is given.

        Raises ``Unprocessable`` for a file without a header, ``FileDamaged``.
        """
        csv.field_size_limit(LONGEST_CELL)
        self._source: Source = source
        name = "utf-8-sig" if encoding == "utf-8" else encoding
        # Half a character becomes a lone surrogate, which refuses its row and no other.
        text = io.TextIOWrapper(
            io.BufferedReader(source, BLOCK_BYTES),
            encoding=name,
            errors="replace" if encoding == "utf-16" else "surrogateescape",
            newline="",
        )
        first = text.readline(LONGEST_CELL)
        while first and not first.strip():
            first = text.readline(LONGEST_CELL)
        self.delimiter = delimiter or find_delimiter(first)
        self._reader = csv.reader(_chain(first, text), delimiter=self.delimiter)
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise refuse_file(f"the header cannot be read: {error}") from error
        self.columns: tuple[str, ...] = tuple(map(_clean_name, header))
        if not any(self.columns) or len(self.columns) > _MOST_COLUMNS:
            raise refuse_file("the first line must name the columns")

    def rows(self, after: int = 0) -> Iterator[Sequence[str] | BadRow]:
        """Yield the cells of the rows behind the first ``after``."""
        return islice(self._rows(), after, None)

    def _rows(self) -> Iterator[Sequence[str] | BadRow]:
        width = len(self.columns)
        while True:
            try:
                for cells in self._reader:
                    if len(cells) == width:
                        yield cells
                    elif cells:
                        yield _fit(cells, width)
                return
            except csv.Error as error:
                # The reader goes on with the next line.
                yield BadRow("unreadable_row", f"{error}; is a quote left open?")
            except UnicodeError as error:
                raise FileDamaged("the file is not in the encoding that was said") from error

    def share_read(self) -> float:
        """Return how much of the file has been read, 0 to 1."""
        return self._source.share_read()

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def _clean_name(name: str) -> str:
    # Names become keys and stand in messages: half a character, or NUL, can be neither.
    return name.replace("\0", "\ufffd").encode("utf-8", "replace").decode().strip()


def _chain(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    line = first
    while line:
        yield line
        line = rest.readline(_LONGEST_LINE)


def _fit(cells: list[str], width: int) -> Sequence[str] | BadRow:
    """Return a row of another length at its width: the end of a row may be left out."""
    if len(cells) < width:
        return cells + [""] * (width - len(cells))
    if not any(cells[width:]):
        return cells[:width]
    message = f"the row has {len(cells)} cells, the header {width}"
    return BadRow("wrong_number_of_cells", message, "\t".join(cells).encode("utf-8", "replace"))


def find_delimiter(header: str) -> str:
    """Return the delimiter that stands most often in the header outside quotes. Pure."""
    bare = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda delimiter: (bare.count(delimiter), delimiter == ","))
