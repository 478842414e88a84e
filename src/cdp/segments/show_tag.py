"""A tag as it is shown: its definition, how far its values are, what they came to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from cdp.runtime.clock import format_time, now
from cdp.segments import tag_failures_store, tag_values_engine
from cdp.segments.builtins import computations_store
from cdp.segments.builtins.computations_store import Computation
from cdp.segments.builtins.definition import ReadContext
from cdp.segments.builtins.inputs import list_inputs
from cdp.segments.builtins.registry import find_kind, read_built_in
from cdp.segments.moves_store import count_waiting
from cdp.segments.service import Segments
from cdp.segments.show_segment import show_status
from cdp.segments.tag_failures_store import TagFailure
from cdp.segments.tag_history_routes import require_tag
from cdp.segments.tags_store import Tag
from cdp.storage.database import Driver, driver

_MOVES_SHOWN = timedelta(days=30)


def read_and_show(services: Segments, key: str) -> dict[str, Any]:
    """Return the tag ``key`` as it is shown; raise ``NotFound``."""
    freshness = services.freshness()
    with services.database.transaction() as connection:
        tx = driver(connection)
        tag = require_tag(tx, key)
        computed = _read_computation(tx, tag)
        failure = tag_failures_store.list_failures(tx).get(key)
        waiting = count_waiting(tx, key) if "transitions" in tag.document else None
    count = tag_values_engine.count_by_tag(services.reader).get(key, 0)
    shown = show_tag(services, tag, count, computed, failure)
    if waiting is not None:
        shown["waiting"] = [{**row, "next_at": format_time(row["next_at"])} for row in waiting]
    return {**shown, **freshness}


def _read_computation(tx: Driver, tag: Tag) -> Computation | None:
    """Return what a tag came to; of a lifecycle with the moves of the last 30 days."""
    computed = computations_store.find_computation(tx, tag.key)
    kind = find_kind(tag.document)
    if computed is None or kind is None or kind.moves_by is None:
        return computed
    moves = computations_store.count_moves(tx, tag.key, kind.moves_by, now() - _MOVES_SHOWN)
    return replace(computed, summary={**computed.summary, "moves": moves})


def read_computations(tx: Driver, tags: list[Tag]) -> dict[str, Computation | None]:
    """Return what built-in tags came to, by key."""
    return {
        tag.key: computations_store.find_computation(tx, tag.key)
        for tag in tags
        if find_kind(tag.document) is not None
    }


def show_built_in(tag: Tag, computed: Computation | None, status: str) -> dict[str, Any]:
    """Return what a built-in tag reads, the settings that hold, and what there is too little of."""
    if find_kind(tag.document) is None:
        return {"inputs": None, "settings": None, "missing": None}
    built_in = read_built_in(tag.document, ReadContext())
    settings = dict(built_in.effective)
    summary = (computed and computed.summary) or {}
    if "currency" not in settings and summary.get("currency"):
        settings["currency"] = summary["currency"]
    return {
        "inputs": list_inputs(tag.document, built_in),
        "settings": settings,
        "missing": summary.get("missing") if status == "not_enough_data" else None,
    }


def show_tag(
    services: Segments,
    tag: Tag,
    count: int,
    computed: Computation | None,
    failure: TagFailure | None,
) -> dict[str, Any]:
    """Return a tag as it is shown."""
    kind = find_kind(tag.document)
    status = show_status(services, tag.definition)
    error: dict[str, Any] | None = None
    if failure is not None and failure.version == tag.version:
        status = "failing"
        error = {"code": failure.code, "message": failure.message, "at": format_time(failure.at)}
    elif status == "failing":
        error = {"code": "evaluation_failed", "message": "it could not be evaluated", "at": None}
    if status == "ready" and computed is not None:
        status = computed.status
    return {
        "key": tag.key,
        "name": tag.name,
        "category": tag.category,
        "type": tag.type,
        "definition": tag.document,
        "version": tag.version,
        "status": status,
        "error": error,
        "count": count,
        **show_built_in(tag, computed, status),
        "summary": computed and computed.summary,
        "model": computed and computed.model,
        "computed_at": format_time(computed.computed_at) if computed else None,
        "meaning": kind and kind.meaning,
        "citation": kind and kind.citation,
        "created_at": format_time(tag.created_at),
        "updated_at": format_time(tag.updated_at),
    }
