"""Open a file by what is in it, not by its name: compression, format, encoding, delimiter.

Decompression is pyarrow's: it streams, gives up the interpreter's lock, takes files of several
gzip members or zstd frames, and says when a file is cut off.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import Any

import pyarrow as pa

from cdp.ingest.imports.csv_file import CsvFile
from cdp.ingest.imports.mapping import Mapping
from cdp.ingest.imports.ndjson_file import NdjsonFile
from cdp.ingest.imports.parquet_file import ParquetFile
from cdp.ingest.imports.reading import BLOCK_BYTES, FileDamaged, RowFile, refuse_file

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PARQUET = b"PAR1"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = {b"PK\x03\x04": "a zip archive or Excel workbook; save it as CSV", b"%PDF": "a PDF"}


class Inflating(io.RawIOBase):
    """The bytes of a file, decompressed when they are compressed; tells how far it has come."""

    def __init__(self, path: Path, *, may_be_cut: bool = False) -> None:
        """``may_be_cut``: the end of a cut file is its end, for a look at its beginning."""
        self._file = path.open("rb")
        self._size = max(1, path.stat().st_size)
        self._may_be_cut = may_be_cut
        self.compression = find_compression(self._file.read(4))
        self._file.seek(0)
        self._inner: Any = self._file
        if self.compression is not None:
            self._inner = pa.CompressedInputStream(pa.PythonFile(self._file), self.compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            if self._may_be_cut:
                return 0
            raise FileDamaged(f"the {self.compression} data is damaged or cut off") from error
        buffer[: len(data)] = data
        return len(data)

    def share_read(self) -> float:
        """Return how much of the file on disk has been read, 0 to 1."""
        # A reader that has come to the end closes what is below it.
        return 1.0 if self._file.closed else min(1.0, self._file.tell() / self._size)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def find_compression(start: bytes) -> str | None:
    """Return ``gzip`` or ``zstd`` for a file that starts so."""
    return next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)


def open_file(path: Path, mapping: Mapping, *, may_be_cut: bool = False) -> RowFile:
    """Open the file; the mapping outranks what is found out from its content.

    Raises ``Unprocessable`` for a file that is none of CSV, NDJSON and Parquet.
    """
    if path.stat().st_size == 0:
        raise refuse_file("the file is empty")
    source = Inflating(path, may_be_cut=may_be_cut)
    try:
        sample = _read_sample(source)
    except FileDamaged as error:
        source.close()
        raise refuse_file(str(error)) from error
    source.close()
    if not sample:
        raise refuse_file("the file is empty")
    if mapping.format == "parquet" or sample.startswith(_PARQUET):
        return ParquetFile(path, Inflating(path) if source.compression else None)
    for magic, name in _OTHERS.items():
        if sample.startswith(magic):
            raise refuse_file(f"the file is {name}")
    format = mapping.format or _guess_format(sample)
    source = Inflating(path, may_be_cut=may_be_cut)
    if format == "ndjson":
        return NdjsonFile(source)
    encoding = mapping.encoding or guess_encoding(sample)
    try:
        return CsvFile(source, encoding, mapping.delimiter)
    except FileDamaged as error:
        source.close()
        raise refuse_file(str(error)) from error


def _read_sample(source: Inflating) -> bytes:
    sample = b""
    while len(sample) < BLOCK_BYTES:
        data = source.read(BLOCK_BYTES - len(sample))
        if not data:
            break
        sample += data
    return sample


def _guess_format(sample: bytes) -> str:
    start = sample.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"[":
        raise refuse_file("the file is one JSON list; write one object a line instead")
    return "ndjson" if start == b"{" else "csv"


def guess_encoding(sample: bytes) -> str:
    """Return UTF-8 when the sample is, by its mark or its bytes, else GB18030."""
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"
