"""Segments over HTTP: define, preview, list, delete."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.read_audit import note_people
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.receipts import after_analytics
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.runtime.query_time import read_query_time
from cdp.segments import faces_engine, members_engine, segments_store
from cdp.segments.definitions import (
    Definition,
    UnitName,
    clean_document,
    find_cycle,
    find_references,
    is_key,
)
from cdp.segments.definitions_store import read_definitions
from cdp.segments.json_schema import rule_schema
from cdp.segments.rules import InSegment, Rule, Tag, walk
from cdp.segments.segments_store import Segment
from cdp.segments.service import (
    EVALUATION_PATIENCE,
    Limit,
    SegmentReader,
    Segments,
    SegmentWriter,
)
from cdp.storage.database import Driver, driver

_MOST_OVERLAPPING = 20


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


class Preview(_Body):
    """A rule to be tried."""

    rule: Any


class Overlap(_Body):
    """Segments to be compared."""

    segments: Annotated[list[str], Field(min_length=1, max_length=_MOST_OVERLAPPING)]


def create_router(services: Segments) -> APIRouter:
    """Return the routes that define segments and tell what they are."""
    router = APIRouter(tags=["segments"], dependencies=[Depends(after_analytics)])
    _add_trials(router, services)
    _add_definitions(router, services)
    _add_reading(router, services)
    return router


def _add_trials(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/rules/schema")
    def get_rule_schema(caller: SegmentReader) -> dict[str, Any]:
        """Show the rule language as JSON Schema (draft 2020-12), for editors and form builders."""
        return rule_schema()

    @router.post("/v1/segments/preview")
    def preview_segment(caller: SegmentReader, body: Preview) -> dict[str, Any]:
        """Say how many people a rule means, and show some of them, without keeping anything."""
        started = time.perf_counter()
        with services.database.transaction() as connection:
            definitions = read_definitions(driver(connection))
        rule = _read_rule(services, clean_document(body.rule), definitions)
        freshness = services.freshness()
        found = faces_engine.preview(
            services.reader, rule, now(), services.timezone, is_masked=not caller.sees_personal
        )
        took_ms = round((time.perf_counter() - started) * 1000, 1)
        note_people(len(found["sample"]))
        warnings = services.find_warnings([rule])
        return {**found, "took_ms": took_ms, "warnings": warnings, **freshness}

    @router.post("/v1/segments/overlap")
    def compare_segments(caller: SegmentReader, body: Overlap) -> dict[str, Any]:
        """Say how many people are in each of the segments, and in exactly which combination."""
        with services.database.transaction() as connection:
            known = {each.key for each in segments_store.list_segments(driver(connection))}
        for index, key in enumerate(body.segments):
            if key not in known:
                raise Unprocessable(
                    "unknown_segment", f"there is no segment {key!r}", path=f"/segments/{index}"
                )
        freshness = services.freshness()
        regions = members_engine.count_overlap(services.reader, body.segments)
        sizes = {
            key: sum(count for combination, count in regions if key in combination)
            for key in body.segments
        }
        rows = [{"segments": combination, "count": count} for combination, count in regions]
        return {"sizes": sizes, "data": rows, "next": None, **freshness}

    @router.post("/v1/segments/check")
    def check_segments(caller: SegmentWriter) -> dict[str, Any]:
        """Evaluate everything for everybody and compare: `ok` says that nothing differs.

        Changes nothing; events wait meanwhile. Built-in tags are left out.
        """
        checked = services.refresher.check(now, seconds=EVALUATION_PATIENCE)
        rows = [one.show() for one in checked]
        is_right = all(one.is_right for one in checked)
        return {"ok": is_right, "data": rows, **services.freshness()}


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
            tree = _read_rule(services, rule, definitions)
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
            old = _require_segment(tx, key)
            definitions = read_definitions(tx)
            tree = _read_rule(services, rule, definitions)
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
            found = segments_store.list_segments(driver(connection), limit=limit + 1, after=after)
        page, following = cut_page(found, limit, lambda segment: (segment.key,))
        sizes = members_engine.count_by_segment(services.reader)
        rows = [_show(services, segment, sizes.get(segment.key, 0)) for segment in page]
        return {"data": rows, "next": following, **freshness}

    @router.get("/v1/segments/{key}")
    def get_segment(caller: SegmentReader, key: str, at: str | None = None) -> dict[str, Any]:
        """Show a segment, now or as it was ``at`` a moment."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            segment = _require_segment(driver(connection), key)
            versions = segments_store.list_versions(driver(connection), key)
        if at is None:
            size = members_engine.count_by_segment(services.reader).get(key, 0)
            rule = services.read_rule(segment.rule, path="/rule", segments=None, tags=None)
            warnings = services.find_warnings([rule])
            return {**_show(services, segment, size), "warnings": warnings, **freshness}
        moment = read_query_time("at", at)
        known = [version for version in versions if version.at <= moment]
        if not known:
            raise NotFound("segment_not_found", f"there was no segment {key} then")
        size = members_engine.count_members_at(services.reader, key, moment)
        past = {"at": format_time(moment), "rule": known[-1].rule, "version": known[-1].version}
        return {**_show(services, segment, size), **past, **freshness}


def require_key(key: str) -> None:
    """Raise ``Unprocessable`` for what cannot name a segment or a tag."""
    if not is_key(key):
        raise Unprocessable(
            "bad_key",
            "a key has lower-case letters, digits, _ and dots, begins with a letter, "
            "and is up to 100 characters long",
            path="/key",
        )


def require_no_cycle(changed: Definition, definitions: list[Definition], rules: list[Rule]) -> None:
    """Raise ``Unprocessable`` at the reference by which ``changed`` would refer to itself.

    ``rules`` are the trees of ``changed``, which know where they were written.
    """
    others = [each for each in definitions if each.name != changed.name]
    cycle = find_cycle([*others, changed])
    if not cycle:
        return
    named = " → ".join(name.key for name in cycle)
    raise Unprocessable(
        "cycle", f"these would refer to each other: {named}", path=_find_place(set(cycle), rules)
    )


def _find_place(cycle: set[UnitName], rules: list[Rule]) -> str:
    for rule in rules:
        for node in walk(rule):
            if isinstance(node, InSegment) and UnitName("segment", node.key) in cycle:
                return f"{node.origin.pointer}/segment"
            if isinstance(node, Tag) and UnitName("tag", node.key) in cycle:
                return f"{node.origin.pointer}/tag"
    return "/rule"


def segment_not_found(key: str) -> NotFound:
    """Return the error for an unknown segment."""
    return NotFound("segment_not_found", f"there is no segment {key}")


def _require_segment(tx: Driver, key: str) -> Segment:
    segment = segments_store.find_segment(tx, key)
    if segment is None:
        raise segment_not_found(key)
    return segment


def _read_rule(services: Segments, document: Any, definitions: list[Definition]) -> Rule:
    return services.read_rule(
        document,
        path="/rule",
        segments={each.key for each in definitions if each.kind == "segment"},
        tags={each.key for each in definitions if each.kind == "tag"},
    )


def _record(tx: Driver, actor: str, action: str, segment: Segment) -> None:
    audit_store.record(tx, actor, action, segment.key, {"version": segment.version})


def _evaluate_and_show(services: Segments, key: str, rule: Rule) -> dict[str, Any]:
    services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
    freshness = services.freshness()
    with services.database.transaction() as connection:
        segment = _require_segment(driver(connection), key)
    size = members_engine.count_by_segment(services.reader).get(key, 0)
    shown = _show(services, segment, size)
    return {**shown, "warnings": services.find_warnings([rule]), **freshness}


def _show(services: Segments, segment: Segment, size: int) -> dict[str, Any]:
    return {
        "key": segment.key,
        "name": segment.name,
        "description": segment.description,
        "rule": segment.rule,
        "consent": segment.consent,
        "version": segment.version,
        "status": show_status(services, segment.definition),
        "count": size,
        "uses": _show_uses(segment.definition),
        "created_at": format_time(segment.created_at),
        "updated_at": format_time(segment.updated_at),
    }


def show_status(services: Segments, definition: Definition) -> str:
    """Return ``ready``, ``computing``, or ``failing`` when the evaluation does not succeed."""
    if definition.name in services.refresher.failing():
        return "failing"
    return "computing" if definition.is_behind else "ready"


def _show_uses(definition: Definition) -> list[dict[str, str]]:
    names = sorted(set(find_references(definition.document)))
    return [{"kind": name.kind, "key": name.key} for name in names]
