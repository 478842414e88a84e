"""Read NDJSON: one JSON object a line. Lines stay bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from cdp.ingest.imports.chunks import BadRow
from cdp.ingest.imports.reading import BLOCK_BYTES

LONGEST_LINE = 8 * 1024 * 1024


class Source(Protocol):
    """Bytes, and how far they have been read."""

    def read(self, size: int = -1, /) -> bytes | None: ...
    def share_read(self) -> float: ...
    def close(self) -> None: ...


class NdjsonFile:
    """Lines of a file; empty ones are no rows."""

    format = "ndjson"
    columns = None
    is_typed = True
    total_rows = None

    def __init__(self, source: Source) -> None:
        self._source = source

    def rows(self, after: int = 0) -> Iterator[bytes | BadRow]:
        """Yield lines behind the first ``after``."""
        return islice(self._lines(), after, None)

    def _lines(self) -> Iterator[bytes | BadRow]:
        rest = b""
        is_too_long = False
        for block in self._blocks():
            *lines, last = (rest + block).split(b"\n")
            if is_too_long and lines:
                # The end of a line that was given up.
                lines = lines[1:]
                is_too_long = False
            for line in lines:
                # Spaces around an object are rare, so that looking is cheaper than stripping.
                if line[-1:] != b"}" or line[:1] != b"{":
                    line = line.strip()
                    if not line:
                        continue
                yield line
            rest = last
            if is_too_long:
                rest = b""
            elif len(rest) > LONGEST_LINE:
                yield BadRow("event_too_large", f"a line has more than {LONGEST_LINE} bytes")
                rest, is_too_long = b"", True
        if rest.strip():
            yield rest.strip()

    def _blocks(self) -> Iterator[bytes]:
        is_first = True
        while block := self._source.read(BLOCK_BYTES):
            if is_first:
                block = block.removeprefix(codecs.BOM_UTF8)
                is_first = False
            yield block

    def share_read(self) -> float:
        """Return how much of the file has been read, 0 to 1."""
        return self._source.share_read()

    def close(self) -> None:
        """Close the file."""
        self._source.close()
