"""Members of a segment over HTTP: pulls, changes, one member and why, history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import Annotated, Any, Literal

import pyarrow as pa
from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.responses import StreamingResponse

from cdp.access.read_audit import note_people, note_person
from cdp.access.scopes import Caller
from cdp.errors import Conflict, Unprocessable
from cdp.receipts import after_analytics
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.segments import export, members_engine, membership_store, segments_store, tags_store
from cdp.segments.evaluate import PersonFacts, explain
from cdp.segments.export import MEDIA_TYPES, WRITERS, Format
from cdp.segments.member_fields import MemberField, parse_fields
from cdp.segments.members_engine import Pull
from cdp.segments.person_engine import read_person_facts
from cdp.segments.purposes import list_purposes
from cdp.segments.segments_store import Segment
from cdp.segments.service import (
    Channel,
    Limit,
    PulledFields,
    Purposes,
    SegmentReader,
    Segments,
)
from cdp.segments.show_segment import segment_not_found
from cdp.storage.database import driver


def create_router(services: Segments) -> APIRouter:
    """Return the routes that read members."""
    router = APIRouter(tags=["segments"], dependencies=[Depends(after_analytics)])
    _add_pull(router, services)
    _add_changes(router, services)
    _add_one(router, services)
    _add_history(router, services)
    return router


def _add_pull(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/segments/{key}/members", response_model=None)
    def list_members(
        caller: SegmentReader,
        response: Response,
        key: str,
        fields: PulledFields = None,
        format: Format = "json",
        consent: Purposes = None,
        channel: Channel = None,
        limit: Limit = 100,
        cursor: str | None = None,
        if_none_match: Annotated[
            str | None, Header(description="`ETag` of an answer: 304 while nothing has changed.")
        ] = None,
    ) -> dict[str, Any] | Response:
        """Pull the members: pages of one moment as JSON, or the whole set as a stream."""
        segment, tag_keys = _read_segment(services, key)
        wanted = parse_fields(fields, tag_keys)
        pinned, after = _read_cursor(services, segment, cursor)
        pull = Pull(
            segment=key,
            pinned=pinned,
            fields=wanted,
            purposes=list_purposes(consent, channel, segment.consent),
            now=now(),
            timezone=services.timezone,
        )
        asked = (format, after, limit, caller.sees_personal, fields)
        tag = _name_state(services, segment, pull, asked)
        response.headers["ETag"] = tag
        if if_none_match is not None and tag in if_none_match:
            return Response(status_code=304, headers={"ETag": tag})
        if format == "json":
            return _answer_page(services, caller, pull, after, limit)
        answer = _answer_stream(services, caller, pull, wanted, format)
        answer.headers["ETag"] = tag
        return answer


def _name_state(services: Segments, segment: Segment, pull: Pull, asked: tuple[Any, ...]) -> str:
    """Return the ETag of a pull: it stays while nobody enters or leaves.

    With fields or purposes it stays only while nothing at all is new.
    """
    with services.database.transaction() as connection:
        newest = membership_store.find_newest_change(
            driver(connection), segment.key, until=pull.pinned
        )
    state: list[Any] = [segment.key, segment.version, segment.first_change_no, newest, *asked]
    if pull.fields or pull.purposes:
        batch = services.reader.read("SELECT seq FROM core.applied")["seq"][0].as_py()
        state += [pull.purposes, pull.pinned, batch]
    digest = blake2b(repr(state).encode(), digest_size=12).hexdigest()
    return f'W/"{digest}"'


def _answer_page(
    services: Segments, caller: Caller, pull: Pull, after: int, limit: int
) -> dict[str, Any]:
    freshness = services.freshness()
    found = members_engine.read_page(services.reader, pull, after=after, most=limit + 1)
    page = found.slice(0, limit)
    note_people(page.num_rows)
    rows = export.read_rows(page, pull.fields, is_masked=not caller.sees_personal)
    following = None
    if found.num_rows > limit:
        last = page["profile_no"][-1].as_py()
        following = encode_cursor((pull.segment, pull.pinned, last))
    data = [export.show_row(row, pull.fields) for row in rows]
    return {"data": data, "next": following, **freshness}


def _answer_stream(
    services: Segments, caller: Caller, pull: Pull, fields: list[MemberField], format: Format
) -> Response:
    freshness = services.freshness()
    chunks = _note_rows(members_engine.read_chunks(services.reader, pull))
    parts = WRITERS[format](chunks, fields, is_masked=not caller.sees_personal)
    headers = {"Content-Disposition": f'attachment; filename="{pull.segment}.{format}"'}
    if freshness["as_of"] is not None:
        headers |= {"X-As-Of": freshness["as_of"], "X-Lag-Ms": str(freshness["lag_ms"])}
    return StreamingResponse(_start(parts), media_type=MEDIA_TYPES[format], headers=headers)


def _note_rows(chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Note how many people are read as they go out, not how many there are."""
    for chunk in chunks:
        note_people(chunk.num_rows)
        yield chunk


def _start(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first two parts now, so that what fails at once is an answer, not a broken stream.

    (The first part of a CSV is only its header.)
    """
    first = [part for part in (next(parts, None), next(parts, None)) if part is not None]
    return chain(first, parts)


def _add_changes(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/segments/{key}/changes")
    def list_changes(
        caller: SegmentReader,
        key: str,
        since: Annotated[str | None, Query(description="`next` of the last answer.")] = None,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """List who entered and left, in order; ask again with ``next`` to go on for ever."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            segment = segments_store.find_segment(tx, key)
            if segment is None:
                raise segment_not_found(key)
            after = read_since(key, since, segment.first_change_no)
            found = membership_store.list_changes(tx, key, after=after, limit=limit)
        reached = found[-1].change_no if found else after
        rows = [
            {
                "change": row.change,
                "profile_id": row.profile_id,
                "at": format_time(row.at),
                "cause": row.cause,
                "version": row.version,
            }
            for row in found
        ]
        return {"data": rows, "next": encode_cursor((key, reached)), **freshness}


def _add_one(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/segments/{key}/members/{p}")
    def explain_member(caller: SegmentReader, key: str, p: str) -> dict[str, Any]:
        """Say whether a person is a member, since when, and why: the rule with their values."""
        segment, tag_keys = _read_segment(services, key)
        person = services.find_person(p)
        note_person(person.profile_id)
        rule = services.read_rule(segment.rule, path="/rule", segments=None, tags=tag_keys)
        freshness = services.freshness()
        since = members_engine.find_membership(services.reader, key, person.profile_no)
        facts = read_person_facts(services.reader, person.profile_no)
        moment = now()
        why = explain(rule, facts, moment, timezone=services.timezone)
        return {
            "profile_id": person.profile_id,
            "member": since is not None,
            "since": None if since is None else format_time(since),
            "why": why if caller.sees_personal else mask_why(why),
            "consent": _explain_consent(services, segment, facts, moment),
            **freshness,
        }


def _explain_consent(
    services: Segments, segment: Segment, facts: PersonFacts, moment: datetime
) -> Any:
    """Say whether a person granted what the segment asks for; ``None`` when it asks for nothing."""
    if segment.consent is None:
        return None
    rule = services.read_rule(
        {"consent": segment.consent, "op": "granted"}, path="", segments=None, tags=None
    )
    return explain(rule, facts, moment, timezone=services.timezone)


def _add_history(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/segments/{key}/history")
    def get_history(
        caller: SegmentReader, key: str, interval: Literal["hour", "day"] = "hour"
    ) -> dict[str, Any]:
        """Show how the size went, by time and version, and every version of the rule."""
        segment, _ = _read_segment(services, key)
        freshness = services.freshness()
        with services.database.transaction() as connection:
            versions = segments_store.list_versions(driver(connection), key)
        rows = members_engine.read_history(
            services.reader, key, after_change=segment.first_change_no, interval=interval
        )
        return {
            "data": [{**row, "at": format_time(row["at"])} for row in rows],
            "versions": [
                {
                    "version": each.version,
                    "rule": each.rule,
                    "actor": each.actor,
                    "at": format_time(each.at),
                }
                for each in versions
            ],
            "next": None,
            **freshness,
        }


def read_since(key: str, since: str | None, start: int) -> int:
    """Return the change after which to go on; ``start`` without a cursor."""
    if since is None:
        return start
    name, change_no = decode_cursor(since, tuple[str, int], "since")
    if name != key:
        raise Unprocessable("bad_cursor", f"this cursor does not belong to {key}", path="/since")
    return change_no


def mask_why(why: Any) -> Any:
    """Hide what was found on leaves that look at personal values; the rule itself stays."""
    from cdp.access.masking import is_personal, mask_personal, mask_properties

    if isinstance(why, list):
        return [mask_why(inner) for inner in why]
    if not isinstance(why, dict):
        return why
    masked = {
        name: mask_why(inner) if name in ("all", "any", "not") else inner
        for name, inner in why.items()
    }
    if "value" not in why:
        return masked
    looked_at = why.get("trait") or why.get("identifier") or _property_of(why)
    if looked_at is None:
        return masked
    if is_personal(str(looked_at)):
        masked["value"] = mask_personal(why["value"])
    else:
        masked["value"] = mask_properties({"value": why["value"]})["value"]
    return masked


def _property_of(why: dict[str, Any]) -> Any:
    aggregate = why.get("aggregate")
    return aggregate.get("property") if isinstance(aggregate, dict) else None


def _read_segment(services: Segments, key: str) -> tuple[Segment, set[str]]:
    with services.database.transaction() as connection:
        tx = driver(connection)
        segment = segments_store.find_segment(tx, key)
        if segment is None:
            raise segment_not_found(key)
        return segment, {tag.key for tag in tags_store.list_tags(tx)}


def _read_cursor(services: Segments, segment: Segment, cursor: str | None) -> tuple[int, int]:
    key = segment.key
    if cursor is None:
        return members_engine.read_pin(services.reader), -1
    name, pinned, after = decode_cursor(cursor, tuple[str, int, int])
    if name != key:
        raise Unprocessable("bad_cursor", f"this cursor does not belong to {key}", path="/cursor")
    if pinned < segment.first_change_no:
        raise Conflict("pull_outdated", f"{key} was deleted and made anew; pull again")
    return pinned, after
