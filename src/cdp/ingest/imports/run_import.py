"""★ One import from its first row, or the one behind the last checkpoint, to its end.

    file ─► rows ─► lines ─► judge ─► log ─► checkpoint, chunk by chunk

A checkpoint comes after the append. A crash between the two repeats a chunk, whose messages are
then duplicates; the counts belong to the checkpoint, so they never double.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cdp.errors import Unavailable
from cdp.ingest.door import Door
from cdp.ingest.imports.chunks import Chunk, cut_grouped_rows, cut_rows
from cdp.ingest.imports.imports_store import Import
from cdp.ingest.imports.map_row import ObjectMapper, compile_mapping
from cdp.ingest.imports.mapping import Mapping as RowMapping
from cdp.ingest.imports.mapping import digest_mapping, read_mapping
from cdp.ingest.imports.open_file import open_file
from cdp.ingest.imports.prepare import Origin, encode_document, map_cells, map_objects, prepare_wire
from cdp.ingest.imports.progress_store import Checkpoint
from cdp.ingest.imports.reading import RowFile
from cdp.ingest.imports.targets import PARTS, ROW_ID, Kind
from cdp.ingest.packing import RequestLog
from cdp.ingest.parse import Judged, Rejection
from cdp.log.format import Kind as LogKind
from cdp.model import Source
from cdp.runtime.clock import format_time, now

MOST_IN_FLIGHT_ROWS = 40_000
"""Rows of one import that the worker has yet to work off: the log is never flooded."""
HOPELESS_ROWS = 10_000
"""After so many rows of which none was taken the mapping is wrong, not the rows."""
_RATE_CHECKPOINTS = 20

LOG_KINDS: Mapping[Kind, LogKind] = {
    "events": "events",
    "profiles": "events",
    "orders": "orders",
    "accounts": "accounts",
}


class Hopeless(Exception):
    """None of the first rows was taken."""


class Defaults(NamedTuple):
    """What holds where neither row nor mapping says anything."""

    timezone: str
    currency: str


class Progress(Protocol):
    """What a running import tells, and asks for."""

    def checkpoint(self, done: Checkpoint) -> None:
        """Count a chunk; returns once it is counted. Raises what ends the import."""
        ...

    def wait(self, reason: str, seconds: float) -> None:
        """Wait, saying for what. Raises what ends the import."""
        ...

    def read_positions(self) -> Mapping[int, int]:
        """Return how far the worker has come, per partition."""
        ...


def cut_file(
    file: RowFile, mapping: RowMapping, kind: Kind, origin: Origin, defaults: Defaults, after: int
) -> Iterator[Chunk]:
    """Yield the chunks of a file behind the row ``after``.

    Raises ``Unprocessable`` when the mapping does not fit the file, ``FileDamaged`` while reading.
    """
    columns = file.columns
    if columns is None and mapping.is_wire:
        wire = prepare_wire(kind, origin)
        return cut_rows(file.rows(after), wire, after=after, is_mapped=False)
    if columns is None:
        objects = ObjectMapper(mapping, kind, timezone=defaults.timezone,
                               currency=defaults.currency)  # fmt: skip
        to_document = map_objects(objects, kind, origin)
    else:
        mapper = compile_mapping(mapping, kind, columns, timezone=defaults.timezone,
                                 currency=defaults.currency, is_typed=file.is_typed)  # fmt: skip
        to_document = map_cells(mapper, kind, origin)
    if mapping.group and ROW_ID[kind] is not None and _maps_parts(mapping, kind, columns):
        return cut_grouped_rows(file.rows(after), to_document, kind, after=after)

    def prepare(row: Any, number: int) -> bytes:
        return encode_document(to_document(row, number))

    return cut_rows(file.rows(after), prepare, after=after)


def _maps_parts(mapping: RowMapping, kind: Kind, columns: tuple[str, ...] | None) -> bool:
    """Return whether a row may be one line of several of an order, or one member of an account."""
    if mapping.preset is not None:
        return True
    named = [column.to or "" for column in mapping.columns.values()]
    if mapping.is_wire:
        named = list(columns or ())
    return any(target.partition(".")[0] in PARTS[kind] and "." in target for target in named)


class Run:
    """One run of one import. ``go`` does it; used by one thread."""

    def __init__(
        self,
        one: Import,
        source: Source,
        door: Door,
        defaults: Defaults,
        progress: Progress,
        *,
        most_in_flight: int = MOST_IN_FLIGHT_ROWS,
    ) -> None:
        self._import = one
        self._source = source
        self._door = door
        self._defaults = defaults
        self._progress = progress
        self._most_in_flight = most_in_flight
        self._rows = one.rows
        self._accepted = one.accepted
        self._flying: deque[tuple[int, Mapping[int, int]]] = deque()
        self._times: deque[tuple[float, int]] = deque(maxlen=_RATE_CHECKPOINTS)
        self.origin = Origin(one.digest, digest_mapping(one.mapping), format_time(one.said_at))

    def go(self, path: Path) -> None:
        """Import the rest of the file at ``path``.

        Raises ``Unprocessable``, ``FileDamaged`` or ``Hopeless`` when the import has failed, and
        whatever ``progress`` raises.
        """
        one = self._import
        mapping = read_mapping(one.mapping, one.kind)
        file = open_file(path, mapping)
        try:
            self._times.append((time.monotonic(), self._rows))
            chunks = cut_file(file, mapping, one.kind, self.origin, self._defaults, self._rows)
            for chunk in chunks:
                self._make_room()
                self._take(chunk, file)
        finally:
            file.close()

    def _take(self, chunk: Chunk, file: RowFile) -> None:
        kind = LOG_KINDS[self._import.kind]
        judged = judge_chunk(self._door, self._source, kind, chunk, self._name)
        reached: Mapping[int, int] = {}
        if judged.accepted or judged.rejected:
            request = self._door.write(
                self._source,
                judged,
                # One for all chunks: a row that is refused twice is known by it.
                request_id=self._import.import_id,
                received_at=format_time(now()),
                kind=kind,
            )
            reached = self._append(request)
            self._flying.append((chunk.end - self._rows, reached))
        self._accepted += judged.accepted
        self._progress.checkpoint(
            Checkpoint(
                rows_before=self._rows,
                rows=chunk.end,
                accepted=judged.accepted,
                rejected=judged.rejected,
                share=file.share_read(),
                rate=self._measure(chunk.end),
                reached={str(partition): offset for partition, offset in reached.items()},
            )
        )
        self._rows = chunk.end
        if self._rows >= HOPELESS_ROWS and not self._accepted:
            raise Hopeless(f"none of the first {self._rows} rows was taken")

    def _name(self, number: int) -> str | None:
        kind = self._import.kind
        return self.origin.name_row(number, kind) if kind in ("events", "profiles") else None

    def _append(self, request: RequestLog) -> Mapping[int, int]:
        """Append, however long the log is away: what it may have taken twice is a duplicate."""
        seconds = 0.5
        while True:
            try:
                return self._door.append([request])
            except Unavailable as error:
                self._progress.wait(f"log: {error.message}", seconds)
                seconds = min(10.0, 2 * seconds)

    def _make_room(self) -> None:
        """Wait until the worker has come close enough."""
        while sum(rows for rows, _ in self._flying) > self._most_in_flight:
            positions = self._progress.read_positions()
            while self._flying and _is_worked_off(self._flying[0][1], positions):
                self._flying.popleft()
            if sum(rows for rows, _ in self._flying) > self._most_in_flight:
                self._progress.wait("worker: it works off what was imported so far", 0.1)

    def _measure(self, rows: int) -> float | None:
        """Return rows per second over the last chunks."""
        self._times.append((time.monotonic(), rows))
        (since, before), (until, after) = self._times[0], self._times[-1]
        return (after - before) / (until - since) if until > since else None


def judge_chunk(
    door: Door,
    source: Source,
    kind: LogKind,
    chunk: Chunk,
    name: Callable[[int], str | None],
) -> Judged:
    """Judge a chunk's lines; what is refused, also before, has its row's number. No I/O.

    ``name`` gives the message id that a row would have had.
    """
    judged = door.judge(source, kind, chunk.lines)
    refused = [replace(one, message_id=name(one.index)) for one in chunk.refused]
    refused += [_number(one, chunk) for one in judged.rejected]
    judged.rejected = sorted(refused, key=lambda one: one.index)
    return judged


def _number(one: Rejection, chunk: Chunk) -> Rejection:
    return replace(one, index=chunk.numbers[one.index])


def _is_worked_off(reached: Mapping[int, int], positions: Mapping[int, int]) -> bool:
    return all(positions.get(partition, 0) > offset for partition, offset in reached.items())
