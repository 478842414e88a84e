"""Cut what a file holds into chunks: as many rows as are judged, logged and checkpointed at once.

Pure: rows in, chunks out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cdp.ingest.imports.map_row import RowRefused
from cdp.ingest.imports.prepare import Prepare, encode, encode_document, id_field, join_rows
from cdp.ingest.imports.targets import Kind
from cdp.ingest.parse import Rejection

CHUNK_ROWS = 4_000
CHUNK_BYTES = 4 * 1024 * 1024
MOST_ROWS_TOGETHER = 1_000
"""Of one order or account."""
_LONGEST_RAW = 64 * 1024


class BadRow(NamedTuple):
    """A row that its reader could not read."""

    code: str
    message: str
    raw: bytes = b""


@dataclass(slots=True)
class Chunk:
    """Lines with the numbers of their rows, and the rows that gave none."""

    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)
    end: int = 0
    """The number of the last row that the chunk accounts for."""
    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to judge it."""
        return self.size >= CHUNK_BYTES or len(self.lines) + len(self.refused) >= CHUNK_ROWS

    def add(self, number: int, line: bytes) -> None:
        """Take a line that comes from the row ``number``."""
        self.lines.append(line)
        self.numbers.append(number)
        self.size += len(line)

    def refuse(self, number: int, code: str, message: str, raw: bytes) -> None:
        """Take a row that gave no line."""
        self.refused.append(Rejection(number, None, code, message, raw[:_LONGEST_RAW]))
        self.size += len(raw)


def cut_rows(
    rows: Iterable[Any], prepare: Prepare, *, after: int = 0, is_mapped: bool = True
) -> Iterator[Chunk]:
    """Yield the chunks of ``rows``, the first of which has the number ``after`` + 1.

    ``is_mapped`` is whether rows are anything but lines in wire format.
    """
    chunk = Chunk(end=after)
    number = after
    for number, row in enumerate(rows, after + 1):
        if type(row) is BadRow:
            chunk.refuse(number, *row)
        else:
            try:
                chunk.add(number, prepare(row, number))
            except RowRefused as refused:
                raw = write_raw(row, is_mapped=is_mapped)
                chunk.refuse(number, refused.code, refused.message, raw)
        if chunk.is_full:
            chunk.end = number
            yield chunk
            chunk = Chunk()
    if chunk.lines or chunk.refused:
        chunk.end = number
        yield chunk


def cut_grouped_rows(
    rows: Iterable[Any],
    prepare: Callable[[Any, int], dict[str, Any]],
    kind: Kind,
    *,
    after: int = 0,
) -> Iterator[Chunk]:
    """Like ``cut_rows``, with rows of one id that follow one another as one document.

    The document has the number of its first row. A chunk never ends within a group, so what a
    crash repeats is whole.
    """
    name = id_field(kind)
    assert name is not None
    chunk = Chunk(end=after)
    group: _Group | None = None
    number = after
    for number, row in enumerate(rows, after + 1):
        document: dict[str, Any] = {}
        if type(row) is BadRow:
            chunk.refuse(number, *row)
        else:
            try:
                document = prepare(row, number)
            except RowRefused as refused:
                chunk.refuse(number, refused.code, refused.message, write_raw(row))
        row_id = document.get(name)
        if group is not None and (row_id is None or row_id != group.row_id):
            group.close(chunk)
            group = None
            if chunk.is_full:
                chunk.end = number - 1
                bad = [one for one in chunk.refused if one.index == number]
                chunk.refused = [one for one in chunk.refused if one.index != number]
                yield chunk
                chunk = Chunk(refused=bad)
        if group is not None:
            group.add(document, kind)
        elif document:
            group = _Group(number, row_id, document)
            if row_id is None:
                group.close(chunk)
                group = None
    if group is not None:
        group.close(chunk)
    if chunk.lines or chunk.refused:
        chunk.end = number
        yield chunk


class _Group:
    """Rows of one order that are being collected."""

    def __init__(self, number: int, row_id: Any, document: dict[str, Any]) -> None:
        self.number = number
        self.row_id = row_id
        self._document = document
        self._rows = 1

    def add(self, document: dict[str, Any], kind: Kind) -> None:
        self._rows += 1
        if self._rows <= MOST_ROWS_TOGETHER:
            join_rows(self._document, document, kind)

    def close(self, chunk: Chunk) -> None:
        if self._rows > MOST_ROWS_TOGETHER:
            message = f"{self._rows} rows have this id; {MOST_ROWS_TOGETHER} can belong together"
            chunk.refuse(self.number, "too_many_rows", message, b"")
            return
        try:
            chunk.add(self.number, encode_document(self._document))
        except RowRefused as refused:
            chunk.refuse(self.number, refused.code, refused.message, b"")


def write_raw(row: Any, *, is_mapped: bool = True) -> bytes:
    """Return a row as it is kept when it is refused.

    Cells become a JSON list: without their columns' meaning nobody could mask them one by one, and
    a list is masked as a whole.
    """
    if isinstance(row, bytes):
        # A mapped line's keys are columns, so a list it is as well.
        return b"[" + row + b"]" if is_mapped else row
    try:
        return encode(list(row))
    except UnicodeEncodeError:
        return encode([str(cell).encode("utf-8", "replace").decode() for cell in row])
    except (TypeError, ValueError, OverflowError, RecursionError):
        return b""
