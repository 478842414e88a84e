"""Rows of one day become files: as many as they need, each whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import date, datetime
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdp.archive.archive_folder import ArchiveFolder, HashingFile
from cdp.archive.layout import MOST_ROWS, ROWS_IN_GROUP, SCHEMA, Part, name_part


def write_parts(
    folder: ArchiveFolder,
    day: date,
    batches: Iterable[pa.RecordBatch],
    *,
    first_number: int = 0,
    most_rows: int = MOST_ROWS,
) -> list[Part]:
    """Write rows in the order in which they come; return the files.

    They belong to the day only when Postgres says so.
    """
    parts: list[Part] = []
    open_part: PartFile | None = None
    with ExitStack() as stack:
        for batch in batches:
            rest = batch
            while rest.num_rows:
                if open_part is None:
                    number = first_number + len(parts)
                    open_part = stack.enter_context(PartFile(folder, day, number))
                room = most_rows - open_part.rows
                open_part.write(rest.slice(0, room))
                rest = rest.slice(room)
                if open_part.rows >= most_rows:
                    parts.append(open_part.finish())
                    open_part = None
        if open_part is not None:
            parts.append(open_part.finish())
    return parts


class PartFile:
    """One file that is being written; without ``finish`` it never was."""

    def __init__(self, folder: ArchiveFolder, day: date, number: int) -> None:
        self._day = day
        self._path = name_part(day, number)
        self._creating = folder.create(self._path)
        self._file: HashingFile | None = None
        self._writer: Any = None
        self.rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._nodes: list[int] = []
        self._times: list[datetime] = []

    def __enter__(self) -> PartFile:
        self._file = self._creating.__enter__()
        self._writer = pq.ParquetWriter(self._file, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file = None
            self._creating.__exit__(kind or KeyError, error or KeyError("unfinished"), trace)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        if batch.num_rows == 0:
            return
        self.rows += batch.num_rows
        self._note(batch)
        self._waiting.append(batch.cast(SCHEMA))
        self._flush(whole=False)

    def finish(self) -> Part:
        """Let the file be there; return it."""
        assert self._file is not None
        self._flush(whole=True)
        self._writer.close()
        file, self._file = self._file, None
        self._creating.__exit__(None, None, None)
        return Part(
            self._path,
            self._day,
            self.rows,
            file.size,
            file.sha256,
            min(self._nodes, default=None),
            max(self._nodes, default=None),
            min(self._times),
            max(self._times),
        )

    def _note(self, batch: pa.RecordBatch) -> None:
        nodes = pc.min_max(batch.column("node_id")).as_py()
        self._nodes += [one for one in nodes.values() if one is not None]
        times = pc.min_max(batch.column("timestamp")).as_py()
        self._times += times.values()

    def _flush(self, *, whole: bool) -> None:
        waiting = sum(batch.num_rows for batch in self._waiting)
        if waiting < ROWS_IN_GROUP and not (whole and waiting):
            return
        table = pa.Table.from_batches(self._waiting, SCHEMA)
        ready = table if whole else table.slice(0, waiting - waiting % ROWS_IN_GROUP)
        self._writer.write_table(ready, row_group_size=ROWS_IN_GROUP)
        self._waiting = table.slice(ready.num_rows).to_batches()
