"""People's events out of the archive, as if they were rows of Postgres.

Which files stand for rows is asked in the caller's snapshot, so that with the rows of the same
snapshot they are all there is, each once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.archive_store import MAY_HOLD, list_dropped_parts
from cdp.archive.layout import Part
from cdp.archive.read_parts import read_nodes
from cdp.errors import Unavailable
from cdp.storage.database import Driver

Row = tuple[Any, ...]
Key = tuple[datetime, int, str]
Spans = Mapping[int, Sequence[tuple[datetime | None, datetime | None]]]
"""When a node was somebody's: from (inclusive) to (exclusive); ``None`` has no bound."""

_TIMELINE = (
    "source_number", "message_id", "type", "name", "timestamp", "received_at", "original_at",
    "properties", "context", "group_id", "node_id", "event",
)  # fmt: skip
_SAID = (
    "node_id", "type", "timestamp", "message_id", "source_number", "properties", "context",
)  # fmt: skip
_VISITS = ("node_id", "timestamp", "source_number", "message_id", "type")
_PLACES = (*_VISITS, "context", "properties")
_SPANS = """
SELECT node_id, nullif(since, '-infinity'), nullif(until, 'infinity')
  FROM node_profiles WHERE profile_no = %s
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page of a timeline."""

    limit: int
    order: Literal["asc", "desc"]
    event: str | None
    since: datetime | None
    until: datetime | None
    past: Key | None


class ArchivedEvents:
    """Reads the archive for whoever reads the timeline."""

    may_hold = MAY_HOLD

    def __init__(self, folder: ArchiveFolder) -> None:
        self._folder = folder

    def read_page(
        self,
        conn: Driver,
        profile_no: int,
        known: Sequence[Row],
        *,
        limit: int,
        order: Literal["asc", "desc"],
        event: str | None,
        since: datetime | None,
        until: datetime | None,
        past: Key | None,
    ) -> list[Row]:
        """Return the page of which ``known`` are the rows in Postgres, in the same order.

        Rows are those of ``read_timeline``, as is what is asked. Raises ``Unavailable`` when a file
        was exchanged meanwhile.
        """
        wanted = Wanted(limit, order, event, since, until, past)
        spans = _read_spans(conn, profile_no)
        parts = self._list_parts(conn, spans, *_bound(wanted))
        is_down = wanted.order == "desc"
        parts.sort(key=lambda one: one.last_at if is_down else one.first_at, reverse=is_down)
        page = list(known)
        for part in parts:
            if len(page) >= wanted.limit:
                edge = page[wanted.limit - 1][4]
                if edge > part.last_at if is_down else edge < part.first_at:
                    break
            page += self._read_part(part, spans, wanted)
            page.sort(key=_key_of, reverse=is_down)
            del page[wanted.limit :]
        return page

    def read_said(self, conn: Driver, profile_no: int) -> Iterator[Row]:
        """Give the rows that may have said something of a person, as ``read_said`` has them."""
        spans = _read_spans(conn, profile_no)
        for part in self._list_parts(conn, spans, None, None):
            table = self._read(part, spans, _SAID)
            context = table.column("context")
            mask = pc.or_(
                pc.equal(table.column("type"), "identify"),
                pc.match_substring_regex(context, '"(traits|consent|consentManagement)"'),
            )
            for row in _tuples(table.filter(mask)):
                if _is_within(spans, row[0], row[2]):
                    said = row[5] if row[1] == "identify" else "{}"
                    yield (*row[:5], said, row[6])

    def read_visits(self, conn: Driver, profile_no: int) -> list[Row]:
        """Return source number, event time and message id of all that the archive has of a person.

        Raises ``Unavailable`` when a file was exchanged meanwhile.
        """
        spans = _read_spans(conn, profile_no)
        return [
            (number, at, message_id)
            for part in self._list_parts(conn, spans, None, None)
            for node_id, at, number, message_id, _ in _tuples(self._read(part, spans, _VISITS))
            if _is_within(spans, node_id, at)
        ]

    def read_places(
        self, conn: Driver, profile_no: int, since: datetime, until: datetime
    ) -> list[Row]:
        """Return the events from ``since`` to ``until`` that say where they took place.

        Source number, event time, message id, type, context and properties. Raises as
        ``read_visits`` does.
        """
        spans = _read_spans(conn, profile_no)
        found: list[Row] = []
        for part in self._list_parts(conn, spans, since, until + timedelta(microseconds=1)):
            table = self._read(part, spans, _PLACES)
            mask = pc.or_(
                pc.equal(table.column("type"), "page"),
                pc.match_substring_regex(table.column("context"), '"(page|campaign)"'),
            )
            for node_id, at, *rest in _tuples(table.filter(mask)):
                if since <= at <= until and _is_within(spans, node_id, at):
                    found.append((rest[0], at, *rest[1:]))
        return found

    def _read_part(self, part: Part, spans: Spans, wanted: Wanted) -> Iterator[Row]:
        for row in _tuples(self._read(part, spans, _TIMELINE)):
            *shown, node_id, event = row
            if _is_within(spans, node_id, row[4]) and _is_wanted(wanted, shown, event):
                yield tuple(shown)

    def _read(self, part: Part, spans: Spans, columns: Sequence[str]) -> pa.Table:
        try:
            return read_nodes(self._folder, part, sorted(spans), columns)
        except FileNotFoundError:
            raise Unavailable(
                "archive_changed", "the archive was changed meanwhile; try again", retry_after=1
            ) from None

    def _list_parts(
        self, conn: Driver, spans: Spans, since: datetime | None, until: datetime | None
    ) -> list[Part]:
        if not spans:
            return []
        return list_dropped_parts(conn, min(spans), max(spans), since, until)


def _read_spans(conn: Driver, profile_no: int) -> Spans:
    spans: dict[int, list[tuple[datetime | None, datetime | None]]] = {}
    for node_id, since, until in conn.execute(_SPANS, (profile_no,)):
        spans.setdefault(node_id, []).append((since, until))
    return spans


def _bound(wanted: Wanted) -> tuple[datetime | None, datetime | None]:
    """Return between which event times a page may lie."""
    since, until = wanted.since, wanted.until
    if wanted.past is not None and wanted.order == "asc":
        since = wanted.past[0] if since is None else max(since, wanted.past[0])
    return since, until


def _is_within(spans: Spans, node_id: int, at: datetime) -> bool:
    return any(
        (since is None or at >= since) and (until is None or at < until)
        for since, until in spans[node_id]
    )


def _is_wanted(wanted: Wanted, row: Sequence[Any], event: str | None) -> bool:
    at = row[4]
    if wanted.event is not None and event != wanted.event:
        return False
    if (wanted.since and at < wanted.since) or (wanted.until and at >= wanted.until):
        return False
    if wanted.past is None:
        return True
    key = _key_of(row)
    return key < wanted.past if wanted.order == "desc" else key > wanted.past


def _key_of(row: Sequence[Any]) -> Key:
    return row[4], row[0], row[1]


def _tuples(table: pa.Table) -> Iterator[Row]:
    columns: Collection[list[Any]] = [column.to_pylist() for column in table.columns]
    return zip(*columns, strict=True)
