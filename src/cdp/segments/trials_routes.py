"""Rules and segments tried over HTTP: a preview, an overlap, a check. Nothing is kept."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cdp.access.read_audit import note_people
from cdp.errors import Unprocessable
from cdp.runtime.clock import now
from cdp.segments import faces_engine, members_engine, segments_store
from cdp.segments.definitions import Definition, clean_document
from cdp.segments.definitions_store import read_definitions
from cdp.segments.json_schema import rule_schema
from cdp.segments.rules import Rule
from cdp.segments.service import EVALUATION_PATIENCE, SegmentReader, Segments, SegmentWriter
from cdp.storage.database import driver

_MOST_OVERLAPPING = 20


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Preview(_Body):
    """A rule to be tried."""

    rule: Any


class Overlap(_Body):
    """Segments to be compared."""

    segments: Annotated[list[str], Field(min_length=1, max_length=_MOST_OVERLAPPING)]


def add_trials(router: APIRouter, services: Segments) -> None:
    """Add the routes that try things to ``router``."""

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
        rule = read_posted_rule(services, clean_document(body.rule), definitions)
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


def read_posted_rule(services: Segments, document: Any, definitions: list[Definition]) -> Rule:
    """Read the rule of a body, at ``/rule``; raise ``Unprocessable`` at the mistake."""
    return services.read_rule(
        document,
        path="/rule",
        segments={each.key for each in definitions if each.kind == "segment"},
        tags={each.key for each in definitions if each.kind == "tag"},
    )
