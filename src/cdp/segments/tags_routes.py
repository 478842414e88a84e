"""Tags over HTTP: define, list, set by hand, distribution, changes."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.model import Identifier
from cdp.receipts import after_analytics
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.segments import segments_store, tag_failures_store, tag_values_engine, tags_store
from cdp.segments.builtins import computations_store
from cdp.segments.builtins.computations_store import Computation
from cdp.segments.builtins.registry import find_kind
from cdp.segments.definitions import Definition, UnitName, clean_document
from cdp.segments.definitions_store import read_definitions
from cdp.segments.members_routes import read_since
from cdp.segments.moves_store import count_waiting
from cdp.segments.paths import read_path
from cdp.segments.routes import require_key, require_no_cycle, show_status
from cdp.segments.service import (
    EVALUATION_PATIENCE,
    Limit,
    SegmentReader,
    Segments,
    TagWriter,
)
from cdp.segments.sql_tags import read_sql
from cdp.segments.standard_tags_routes import add_standard_set
from cdp.segments.tag_failures_store import TagFailure
from cdp.segments.tag_history_routes import add_history
from cdp.segments.tag_moves import describe_move
from cdp.segments.tag_values_routes import add_values
from cdp.segments.tags import CATEGORIES, TYPES, decide_type, parse_definition, require_type
from cdp.segments.tags_store import Tag
from cdp.segments.transitions import find_field
from cdp.storage.database import Driver, driver

_MOVES_SHOWN = timedelta(days=30)
_QUERY_PAUSE = 0.1


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewTag(_Body):
    """A tag to be made."""

    key: str
    name: str | None = Field(None, min_length=1, max_length=200)
    category: str = "basic"
    type: str = "text"
    definition: Any


class ChangedTag(_Body):
    """A new version of a tag. What is left out stays as it is, except the definition."""

    key: str | None = None
    name: str | None = Field(None, min_length=1, max_length=200)
    category: str | None = None
    type: str | None = None
    definition: Any


class NamedIdentifier(_Body):
    """An identifier as it is written on the wire."""

    type: str
    value: str


class ManualValue(_Body):
    """A value set by hand; null removes it."""

    identifier: NamedIdentifier
    value: Any = None


class ManualValues(_Body):
    """Values set by hand."""

    values: Annotated[list[ManualValue], Field(min_length=1, max_length=10_000)]


def create_router(services: Segments) -> APIRouter:
    """Return the routes of tags."""
    router = APIRouter(tags=["tags"], dependencies=[Depends(after_analytics)])
    add_standard_set(router, services)
    add_values(router, services)
    add_history(router, services)
    _add_definitions(router, services)
    _add_values(router, services)
    _add_reading(router, services)
    return router


def _add_definitions(router: APIRouter, services: Segments) -> None:
    @router.post("/v1/tags", status_code=201)
    def create_tag(caller: TagWriter, body: NewTag) -> dict[str, Any]:
        """Make a tag; the answer comes when its first values are in it."""
        require_key(body.key)
        _require_one_of(body.category, CATEGORIES, "/category")
        _require_one_of(body.type, TYPES, "/type")
        document = clean_document(body.definition)
        with services.database.transaction() as connection:
            tx = driver(connection)
            segments_store.lock_definitions(tx)
            asked = body.type if "type" in body.model_fields_set else None
            definition = Definition("tag", body.key, document, 0)
            type = _check(services, tx, definition, body.type, asked)
            tag = tags_store.create_tag(
                tx,
                key=body.key,
                name=clean_document(body.name) or body.key,
                category=body.category,
                type=type,
                document=document,
                now=now(),
            )
            if tag is None:
                raise Conflict("tag_exists", f"there is a tag {body.key} already")
            audit_store.record(tx, caller.actor, "tag_created", tag.key, {"version": tag.version})
        return _evaluate_and_show(services, body.key)

    @router.put("/v1/tags/{key}")
    def change_tag(caller: TagWriter, key: str, body: ChangedTag) -> dict[str, Any]:
        """Give a tag a new version; the answer comes when its values follow it."""
        if body.key not in (None, key):
            raise Unprocessable("key_is_fixed", "a tag keeps its key", path="/key")
        document = clean_document(body.definition)
        with services.database.transaction() as connection:
            tx = driver(connection)
            segments_store.lock_definitions(tx)
            old = _require_tag(tx, key)
            category = body.category or old.category
            given = body.type or old.type
            _require_one_of(category, CATEGORIES, "/category")
            _require_one_of(given, TYPES, "/type")
            kind = _check(services, tx, Definition("tag", key, document, 0), given, given)
            tag = tags_store.update_tag(
                tx,
                key,
                name=clean_document(body.name) or old.name,
                category=category,
                type=kind,
                document=document,
                now=now(),
            )
            assert tag is not None
            if find_kind(document) is None:
                computations_store.delete_computation(tx, key)
            audit_store.record(tx, caller.actor, "tag_changed", key, {"version": tag.version})
        return _evaluate_and_show(services, key)

    @router.delete("/v1/tags/{key}", status_code=204)
    def delete_tag(caller: TagWriter, key: str) -> Response:
        """Take the tag from everybody and delete it, unless something refers to it."""

        def record(tx: Driver) -> None:
            audit_store.record(tx, caller.actor, "tag_deleted", key)

        existed = services.refresher.retire(
            UnitName("tag", key), now, record, seconds=EVALUATION_PATIENCE
        )
        if not existed:
            raise tag_not_found(key)
        return Response(status_code=204)


def _add_values(router: APIRouter, services: Segments) -> None:
    @router.put("/v1/tags/{key}/values")
    def set_values(caller: TagWriter, key: str, body: ManualValues) -> dict[str, Any]:
        """Set values by hand. They stay with the identifier that was named, whoever it is of."""
        with services.database.transaction() as connection:
            tag = _require_tag(driver(connection), key)
        if "manual" not in tag.document:
            raise Conflict("tag_is_computed", f"the values of {key} are computed, not set by hand")
        placed, rejected = _place_values(services, tag, body)
        if placed:
            with services.database.transaction() as connection:
                tx = driver(connection)
                tags_store.write_manual_values(tx, key, placed, now())
                audit_store.record(tx, caller.actor, "tag_values_set", key, {"count": len(placed)})
            services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
        return {"stored": len(placed), "rejected": rejected}


def _place_values(
    services: Segments, tag: Tag, body: ManualValues
) -> tuple[list[tuple[int, Any]], list[dict[str, Any]]]:
    """Return the values by node, and what names nobody. Raises for a value of a wrong type."""
    known: dict[int, Identifier] = {}
    rejected: list[dict[str, Any]] = []
    for index, given in enumerate(body.values):
        require_type(given.value, tag.type, f"/values/{index}/value")
        try:
            name = f"{given.identifier.type}:{given.identifier.value}"
            known[index] = services.find_person(name).asked
        except NotFound as error:
            rejected.append({"index": index, "code": error.code, "message": error.message})
    with services.database.transaction() as connection:
        nodes = tags_store.find_nodes(driver(connection), list(known.values()))
    placed = [
        (node, clean_document(body.values[index].value))
        for index, node in zip(known, nodes, strict=True)
        if node is not None
    ]
    return placed, rejected


def _add_reading(router: APIRouter, services: Segments) -> None:
    @router.get("/v1/tags")
    def list_tags(
        caller: SegmentReader,
        category: Annotated[str | None, Query(description="Only those of a category.")] = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List tags by key."""
        if category is not None:
            _require_one_of(category, CATEGORIES, "/category")
        after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            found = tags_store.list_tags(tx, limit=limit + 1, after=after, category=category)
            computed = _read_computations(tx, found)
            failures = tag_failures_store.list_failures(tx)
        page, following = cut_page(found, limit, lambda tag: (tag.key,))
        counts = tag_values_engine.count_by_tag(services.reader)
        rows = [
            _show(
                services,
                tag,
                counts.get(tag.key, 0),
                computed.get(tag.key),
                failures.get(tag.key),
            )
            for tag in page
        ]
        return {"data": rows, "next": following, **freshness}

    @router.get("/v1/tags/{key}")
    def get_tag(caller: SegmentReader, key: str) -> dict[str, Any]:
        """Show a tag, its definition and how far its values are computed."""
        return _read_and_show(services, key)

    @router.get("/v1/tags/{key}/distribution")
    def get_distribution(
        caller: SegmentReader,
        key: str,
        field: Annotated[str | None, Query(description="A dotted path into the value.")] = None,
    ) -> dict[str, Any]:
        """Show how many profiles have each value, most first."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            _require_tag(driver(connection), key)
        path = read_path(field) if field else ()
        rows = tag_values_engine.read_distribution(services.reader, key, path)
        return {"data": rows, "next": None, **freshness}

    @router.get("/v1/tags/{key}/changes")
    def list_changes(
        caller: SegmentReader, key: str, since: str | None = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List the values that profiles took and lost, in order; ``next`` is always given."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            tag = _require_tag(tx, key)
            after = read_since(key, since, tag.first_change_no)
            found = tags_store.list_tag_changes(tx, key, after=after, limit=limit)
        reached = found[-1].change_no if found else after
        field = find_field(tag.document)
        rows = [
            {
                "profile_id": row.profile_id,
                "from": row.before,
                "to": row.value,
                "value": row.value,
                "at": format_time(row.at),
                "cause": row.cause,
                "reason": describe_move(row.before, row.value, field),
                "version": row.version,
            }
            for row in found
        ]
        return {"data": rows, "next": encode_cursor((key, reached)), **freshness}


def tag_not_found(key: str) -> NotFound:
    """Return the error for an unknown tag."""
    return NotFound("tag_not_found", f"there is no tag {key}")


def _require_tag(tx: Driver, key: str) -> Tag:
    tag = tags_store.find_tag(tx, key)
    if tag is None:
        raise tag_not_found(key)
    return tag


def _require_one_of(value: str, allowed: tuple[str, ...], path: str) -> None:
    if value not in allowed:
        raise Unprocessable("bad_value", f"choose one of {', '.join(allowed)}", path=path)


def _check(
    services: Segments, tx: Driver, definition: Definition, type: str, asked: str | None
) -> str:
    """Check a definition; return the type of its values. ``asked`` is that which was written."""
    definitions = read_definitions(tx)
    document = definition.document
    type = decide_type(document, type)
    if isinstance(document, dict) and isinstance(document.get("sql"), str):
        type = asked or _read_sql_type(services, read_sql(document), None)
    rules = parse_definition(
        document,
        type=type,
        segments={each.key for each in definitions if each.kind == "segment"},
        tags={each.key for each in definitions if each.kind == "tag"},
        normalise=services.normalise,
    )
    require_no_cycle(definition, definitions, rules)
    if "sql" in document:
        _read_sql_type(services, document["sql"], type)
    return type


def _read_sql_type(services: Segments, sql: str, type: str | None) -> str:
    if services.queries is None:
        raise Unprocessable("sql_refused", "no SQL is run here", path="/definition/sql")
    return services.queries.check(sql, type)


def _evaluate_and_show(services: Segments, key: str) -> dict[str, Any]:
    services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
    end = time.monotonic() + EVALUATION_PATIENCE
    while _awaits_query(services, key) and time.monotonic() < end:
        time.sleep(_QUERY_PAUSE)
        services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
    return _read_and_show(services, key)


def _awaits_query(services: Segments, key: str) -> bool:
    """Whether a tag's SQL has neither given values nor failed yet."""
    with services.database.transaction() as connection:
        tx = driver(connection)
        tag = _require_tag(tx, key)
        failure = tag_failures_store.list_failures(tx).get(key)
    has_failed = failure is not None and failure.version == tag.version
    return "sql" in tag.document and tag.definition.is_behind and not has_failed


def _read_and_show(services: Segments, key: str) -> dict[str, Any]:
    freshness = services.freshness()
    with services.database.transaction() as connection:
        tx = driver(connection)
        tag = _require_tag(tx, key)
        computed = _read_computation(tx, tag)
        failure = tag_failures_store.list_failures(tx).get(key)
        waiting = count_waiting(tx, key) if "transitions" in tag.document else None
    count = tag_values_engine.count_by_tag(services.reader).get(key, 0)
    shown = _show(services, tag, count, computed, failure)
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


def _read_computations(tx: Driver, tags: list[Tag]) -> dict[str, Computation | None]:
    return {
        tag.key: computations_store.find_computation(tx, tag.key)
        for tag in tags
        if find_kind(tag.document) is not None
    }


def _show(
    services: Segments,
    tag: Tag,
    count: int,
    computed: Computation | None,
    failure: TagFailure | None,
) -> dict[str, Any]:
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
        "summary": computed and computed.summary,
        "model": computed and computed.model,
        "computed_at": format_time(computed.computed_at) if computed else None,
        "meaning": kind and kind.meaning,
        "citation": kind and kind.citation,
        "created_at": format_time(tag.created_at),
        "updated_at": format_time(tag.updated_at),
    }
