"""Values of a tag over HTTP: all of them as pages or files, and their spread day by day."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pa_parquet
from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.runtime.drain import Drain
from cdp.segments import tag_history_store, tags_store
from cdp.segments.export import MEDIA_TYPES, Format, write_cell, write_text
from cdp.segments.membership_store import read_head
from cdp.segments.paths import read_path
from cdp.segments.service import Limit, SegmentReader, Segments
from cdp.segments.tag_history_store import HeldValue
from cdp.segments.tags_store import Tag
from cdp.segments.transitions import find_field
from cdp.storage.database import Driver, driver

_CHUNK = 20_000
_MOST_VALUES = 1000
_COLUMNS = ("profile_id", "value", "at", "version")


def add_history(router: APIRouter, services: Segments) -> None:
    """Add the routes of values and their history to ``router``."""

    @router.get("/v1/tags/{key}/values", response_model=None)
    def list_values(
        caller: SegmentReader,
        key: str,
        format: Format = "json",
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any] | Response:
        """Pull everybody's values: pages of one moment as JSON, or all of them as a stream."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            tag = _require_tag(tx, key)
            pinned, after = _read_cursor(tx, tag, cursor)
            most = limit + 1 if format == "json" else 0
            found = tag_history_store.read_values(tx, key, pinned=pinned, after=after, most=most)
        if format != "json":
            return _answer_stream(services, key, pinned, format)
        following = None
        if len(found) > limit:
            following = encode_cursor((key, pinned, found[limit - 1].profile_id))
        return {"data": [_show(row) for row in found[:limit]], "next": following, **freshness}

    @router.get("/v1/tags/{key}/history")
    def get_history(
        caller: SegmentReader,
        key: str,
        field: Annotated[str | None, Query(description="A dotted path into the value.")] = None,
    ) -> dict[str, Any]:
        """Show how many people had each value at the end of each day on which one changed."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            tag = _require_tag(tx, key)
            named = field or find_field(tag.document)
            moves = tag_history_store.read_daily_moves(
                tx,
                key,
                start=tag.first_change_no,
                path=read_path(named) if named else (),
                timezone=services.timezone,
            )
            days = list(add_up(moves))
        return {"data": days, "field": named, "next": None, **services.freshness()}


def add_up(moves: Iterable[tuple[date, str, int]]) -> Iterator[dict[str, Any]]:
    """Yield each day's spread from the moves of all days, in order.

    Raises ``Unprocessable`` when there are too many different values to be counted.
    """
    counts: dict[str, int] = {}
    day: date | None = None
    for moved_on, value, more in moves:
        if day is not None and moved_on != day:
            yield _show_day(day, counts)
        day = moved_on
        counts[value] = counts.get(value, 0) + more
        if not counts[value]:
            del counts[value]
        if len(counts) > _MOST_VALUES:
            message = f"more than {_MOST_VALUES} different values; name a field of them"
            raise Unprocessable("too_many_values", message, path="/field")
    if day is not None:
        yield _show_day(day, counts)


def _show_day(day: date, counts: dict[str, int]) -> dict[str, Any]:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    values = [{"value": json.loads(value), "count": count} for value, count in ordered]
    return {"day": day.isoformat(), "count": sum(counts.values()), "values": values}


def _require_tag(tx: Driver, key: str) -> Tag:
    tag = tags_store.find_tag(tx, key)
    if tag is None:
        raise NotFound("tag_not_found", f"there is no tag {key}")
    return tag


def _read_cursor(tx: Driver, tag: Tag, cursor: str | None) -> tuple[int, str]:
    if cursor is None:
        return read_head(tx).change_no, ""
    name, pinned, after = decode_cursor(cursor, tuple[str, int, str])
    if name != tag.key:
        message = f"this cursor does not belong to {tag.key}"
        raise Unprocessable("bad_cursor", message, path="/cursor")
    if pinned < tag.first_change_no:
        raise Conflict("pull_outdated", f"{tag.key} was deleted and made anew; pull again")
    return pinned, after


def _show(row: HeldValue) -> dict[str, Any]:
    return {
        "profile_id": row.profile_id,
        "value": json.loads(row.value),
        "at": format_time(row.at),
        "version": row.version,
    }


def _answer_stream(services: Segments, key: str, pinned: int, format: Format) -> Response:
    chunks = _read_chunks(services, key, pinned)
    headers = {"Content-Disposition": f'attachment; filename="{key}.{format}"'}
    parts = _WRITERS[format](chunks)
    return StreamingResponse(parts, media_type=MEDIA_TYPES[format], headers=headers)


def _read_chunks(services: Segments, key: str, pinned: int) -> Iterator[list[HeldValue]]:
    after = ""
    while True:
        with services.database.transaction() as connection:
            tx = driver(connection)
            rows = tag_history_store.read_values(tx, key, pinned=pinned, after=after, most=_CHUNK)
        if rows:
            yield rows
        if len(rows) < _CHUNK:
            return
        after = rows[-1].profile_id


def _write_ndjson(chunks: Iterable[list[HeldValue]]) -> Iterator[bytes]:
    for rows in chunks:
        lines = (json.dumps(_show(row), ensure_ascii=False) + "\n" for row in rows)
        yield "".join(lines).encode()


def _write_csv(chunks: Iterable[list[HeldValue]]) -> Iterator[bytes]:
    yield _write_lines([_COLUMNS])
    for rows in chunks:
        yield _write_lines(
            (row.profile_id, write_cell(json.loads(row.value)), format_time(row.at), row.version)
            for row in rows
        )


def _write_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _write_parquet(chunks: Iterable[list[HeldValue]]) -> Iterator[bytes]:
    types = (pa.string(), pa.string(), pa.timestamp("us", "UTC"), pa.int32())
    schema = pa.schema(list(zip(_COLUMNS, types, strict=True)))
    sink = Drain()
    with pa_parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for rows in chunks:
            shown = [row._replace(value=write_text(json.loads(row.value)) or "") for row in rows]
            columns = list(zip(*shown, strict=True))
            arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            yield sink.take()
    yield sink.take()


_WRITERS: dict[str, Callable[[Iterable[list[HeldValue]]], Iterator[bytes]]] = {
    "ndjson": _write_ndjson,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
