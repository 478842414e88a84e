"""Everybody's values of a tag over HTTP: pages of one moment as JSON, or all of them as a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.errors import Conflict, Unprocessable
from cdp.runtime.clock import now
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.segments import tag_pull, tags_store
from cdp.segments.export import MEDIA_TYPES, Format
from cdp.segments.member_fields import parse_fields
from cdp.segments.members_engine import Pull
from cdp.segments.membership_store import read_head
from cdp.segments.purposes import list_purposes
from cdp.segments.service import (
    Channel,
    Limit,
    PulledFields,
    Purposes,
    SegmentReader,
    Segments,
)
from cdp.segments.tag_history_routes import require_tag
from cdp.segments.tag_pull import PulledValue
from cdp.segments.tag_value_files import WRITERS, show_value
from cdp.segments.tags_store import Tag
from cdp.storage.database import Driver, driver
from cdp.storage.tag_horizon_store import read_tag_horizon


def add_values(router: APIRouter, services: Segments) -> None:
    """Add the route that pulls values to ``router``."""

    @router.get("/v1/tags/{key}/values", response_model=None)
    def list_values(
        caller: SegmentReader,
        key: str,
        fields: PulledFields = None,
        format: Format = "json",
        consent: Purposes = None,
        channel: Channel = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any] | Response:
        """Pull everybody's values: pages of one moment as JSON, or all of them as a stream."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            tag = require_tag(tx, key)
            known = {each.key for each in tags_store.list_tags(tx)}
            pinned, after = _read_cursor(tx, tag, cursor)
        pull = Pull(
            segment="",
            pinned=pinned,
            fields=parse_fields(fields, known),
            purposes=list_purposes(consent, channel),
            now=now(),
            timezone=services.timezone,
        )
        if format != "json":
            return _answer_stream(services, caller, key, pull, format)
        found = tag_pull.read_page(
            services.database,
            services.reader,
            key,
            pull,
            after=after,
            most=limit + 1,
            is_masked=not caller.sees_personal,
        )
        page = found[:limit]
        note_people(len(page))
        following = None
        if len(found) > limit:
            following = encode_cursor((key, pinned, page[-1].held.profile_id))
        data = [show_value(row, pull.fields) for row in page]
        return {"data": data, "next": following, **freshness}


def _read_cursor(tx: Driver, tag: Tag, cursor: str | None) -> tuple[int, str]:
    if cursor is None:
        return read_head(tx).change_no, ""
    name, pinned, after = decode_cursor(cursor, tuple[str, int, str])
    if name != tag.key:
        message = f"this cursor does not belong to {tag.key}"
        raise Unprocessable("bad_cursor", message, path="/cursor")
    if pinned < tag.first_change_no:
        raise Conflict("pull_outdated", f"{tag.key} was deleted and made anew; pull again")
    if pinned < read_tag_horizon(tx).dropped_until:
        raise Conflict("pull_outdated", f"{tag.key} is not known as it was then; pull again")
    return pinned, after


def _answer_stream(
    services: Segments, caller: Caller, key: str, pull: Pull, format: Format
) -> Response:
    chunks = _note_rows(
        tag_pull.read_chunks(
            services.database, services.reader, key, pull, is_masked=not caller.sees_personal
        )
    )
    headers = {"Content-Disposition": f'attachment; filename="{key}.{format}"'}
    parts = WRITERS[format](chunks, pull.fields)
    return StreamingResponse(parts, media_type=MEDIA_TYPES[format], headers=headers)


def _note_rows(chunks: Iterable[list[PulledValue]]) -> Iterator[list[PulledValue]]:
    """Note how many people are read as they go out, not how many there are."""
    for chunk in chunks:
        note_people(len(chunk))
        yield chunk
