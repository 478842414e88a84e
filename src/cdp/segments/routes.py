"""Segments over HTTP: defined, changed, listed, deleted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.receipts import after_analytics
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.runtime.query_time import read_query_time
from cdp.segments import members_engine, segments_store
from cdp.segments.check_definition import require_key, require_no_cycle
from cdp.segments.definitions import Definition, UnitName, clean_document
from cdp.segments.definitions_store import read_definitions
from cdp.segments.rules import Rule
from cdp.segments.segments_store import Segment
from cdp.segments.service import (
    EVALUATION_PATIENCE,
    Limit,
    SegmentReader,
    Segments,
    SegmentWriter,
)
from cdp.segments.show_segment import require_segment, segment_not_found, show_segment
from cdp.segments.tags_store import list_tag_keys
from cdp.segments.trials_routes import add_trials, read_posted_rule
from cdp.storage.database import Driver, driver


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSegment(_Body):
    """A segment to be made. ``consent``: the purpose that members in pulls must have granted."""

    key: str
    name: str | None = Field(None, min_length=1, max_length=200)
    rule: Any
    description: str = Field("", max_length=10_000)
    consent: str | None = Field(None, min_length=1, max_length=200)


class ChangedSegment(_Body):
    """A new version of a segment. What is left out stays as it is, except the rule."""

    key: str | None = None
    name: str | None = Field(None, min_length=1, max_length=200)
    rule: Any
    description: str | None = Field(None, max_length=10_000)
    consent: str | None = Field(None, min_length=1, max_length=200)


def create_router(services: Segments) -> APIRouter:
    """Return the routes that define segments and tell what they are."""
    router = APIRouter(tags=["segments"], dependencies=[Depends(after_analytics)])
    add_trials(router, services)
    _add_definitions(router, services)
    _add_reading(router, services)
    return router


def _add_definitions(router: APIRouter, services: Segments) -> None:
    @router.post("/v1/segments", status_code=201)
    def create_segment(caller: SegmentWriter, body: NewSegment) -> dict[str, Any]:
        """Make a segment; the answer comes when its first members are in it."""
        require_key(body.key)
        rule = clean_document(body.rule)
        with services.database.transaction() as connection:
            tx = driver(connection)
            segments_store.lock_definitions(tx)
            definitions = read_definitions(tx)
            tree = read_posted_rule(services, rule, definitions)
            segment = segments_store.create_segment(
                tx,
                key=body.key,
                name=clean_document(body.name) or body.key,
                description=clean_document(body.description),
                rule=rule,
                consent=clean_document(body.consent),
                actor=caller.actor,
                now=now(),
            )
            if segment is None:
                raise Conflict("segment_exists", f"there is a segment {body.key} already")
            _record(tx, caller.actor, "segment_created", segment)
        return _evaluate_and_show(services, body.key, tree)

    @router.put("/v1/segments/{key}")
    def change_segment(caller: SegmentWriter, key: str, body: ChangedSegment) -> dict[str, Any]:
        """Give a segment a new version; the answer comes when its members follow it."""
        if body.key not in (None, key):
            raise Unprocessable("key_is_fixed", "a segment keeps its key", path="/key")
        rule = clean_document(body.rule)
        with services.database.transaction() as connection:
            tx = driver(connection)
            segments_store.lock_definitions(tx)
            old = require_segment(tx, key)
            definitions = read_definitions(tx)
            tree = read_posted_rule(services, rule, definitions)
            require_no_cycle(Definition("segment", key, rule, 0), definitions, [tree])
            given = body.model_fields_set
            segment = segments_store.update_segment(
                tx,
                key,
                name=clean_document(body.name) or old.name,
                description=old.description
                if body.description is None
                else clean_document(body.description),
                rule=rule,
                consent=clean_document(body.consent) if "consent" in given else old.consent,
                actor=caller.actor,
                now=now(),
            )
            assert segment is not None
            _record(tx, caller.actor, "segment_changed", segment)
        return _evaluate_and_show(services, key, tree)

    @router.delete("/v1/segments/{key}", status_code=204)
    def delete_segment(caller: SegmentWriter, key: str) -> Response:
        """Let every member leave and delete the segment, unless something refers to it."""

        def record(tx: Driver) -> None:
            audit_store.record(tx, caller.actor, "segment_deleted", key)

        existed = services.refresher.retire(
            UnitName("segment", key), now, record, seconds=EVALUATION_PATIENCE
        )
        if not existed:
            raise segment_not_found(key)
        return Response(status_code=204)


def _add_reading(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/segments")
    def list_segments(
        caller: SegmentReader, limit: Limit = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List segments by key, with their sizes."""
        after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            found = segments_store.list_segments(tx, limit=limit + 1, after=after)
            tags = list_tag_keys(tx)
        page, following = cut_page(found, limit, lambda segment: (segment.key,))
        sizes = members_engine.count_by_segment(services.reader)
        rows = [show_segment(services, one, sizes.get(one.key, 0), tags) for one in page]
        return {"data": rows, "next": following, **freshness}

    @router.get("/v1/segments/{key}")
    def get_segment(caller: SegmentReader, key: str, at: str | None = None) -> dict[str, Any]:
        """Show a segment, now or as it was ``at`` a moment."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            segment = require_segment(tx, key)
            versions = segments_store.list_versions(tx, key)
            tags = list_tag_keys(tx)
        if at is None:
            size = members_engine.count_by_segment(services.reader).get(key, 0)
            rule = services.read_rule(segment.rule, path="/rule", segments=None, tags=None)
            warnings = services.find_warnings([rule])
            return {
                **show_segment(services, segment, size, tags),
                "warnings": warnings,
                **freshness,
            }
        moment = read_query_time("at", at)
        known = [version for version in versions if version.at <= moment]
        if not known:
            raise NotFound("segment_not_found", f"there was no segment {key} then")
        size = members_engine.count_members_at(services.reader, key, moment)
        past = {"at": format_time(moment), "rule": known[-1].rule, "version": known[-1].version}
        return {**show_segment(services, segment, size, tags), **past, **freshness}


def _record(tx: Driver, actor: str, action: str, segment: Segment) -> None:
    audit_store.record(tx, actor, action, segment.key, {"version": segment.version})


def _evaluate_and_show(services: Segments, key: str, rule: Rule) -> dict[str, Any]:
    services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
    freshness = services.freshness()
    with services.database.transaction() as connection:
        tx = driver(connection)
        segment = require_segment(tx, key)
        tags = list_tag_keys(tx)
    size = members_engine.count_by_segment(services.reader).get(key, 0)
    shown = show_segment(services, segment, size, tags)
    return {**shown, "warnings": services.find_warnings([rule]), **freshness}
