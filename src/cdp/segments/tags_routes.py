"""Tags over HTTP: defined, changed, deleted. What is read of them has files of its own."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.scopes import Caller
from cdp.errors import Conflict, Forbidden, Unprocessable
from cdp.receipts import after_analytics
from cdp.runtime.clock import now
from cdp.segments import segments_store, tag_failures_store, tags_store
from cdp.segments.builtins import computations_store
from cdp.segments.builtins.registry import find_kind
from cdp.segments.check_definition import require_key, require_no_cycle
from cdp.segments.definitions import Definition, UnitName, clean_document
from cdp.segments.definitions_store import read_definitions
from cdp.segments.service import EVALUATION_PATIENCE, Segments, TagWriter
from cdp.segments.show_tag import read_and_show
from cdp.segments.sql_tags import read_sql
from cdp.segments.standard_tags_routes import add_standard_set
from cdp.segments.tag_history_routes import add_history, require_tag, tag_not_found
from cdp.segments.tag_manual_routes import add_manual_values
from cdp.segments.tag_reading_routes import add_reading
from cdp.segments.tag_values_routes import add_values
from cdp.segments.tags import (
    CATEGORIES,
    TYPES,
    asks_for_personal,
    decide_type,
    parse_definition,
    require_one_of,
)
from cdp.storage.database import Driver, driver

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


def create_router(services: Segments) -> APIRouter:
    """Return the routes of tags."""
    router = APIRouter(tags=["tags"], dependencies=[Depends(after_analytics)])
    add_standard_set(router, services)
    add_values(router, services)
    add_history(router, services)
    _add_definitions(router, services)
    add_manual_values(router, services)
    add_reading(router, services)
    return router


def _add_definitions(router: APIRouter, services: Segments) -> None:
    @router.post("/v1/tags", status_code=201)
    def create_tag(caller: TagWriter, body: NewTag) -> dict[str, Any]:
        """Make a tag; the answer comes when its first values are in it."""
        require_key(body.key)
        require_one_of(body.category, CATEGORIES, "/category")
        require_one_of(body.type, TYPES, "/type")
        document = clean_document(body.definition)
        with services.database.transaction() as connection:
            tx = driver(connection)
            segments_store.lock_definitions(tx)
            asked = body.type if "type" in body.model_fields_set else None
            definition = Definition("tag", body.key, document, 0)
            type = _check(services, tx, caller, definition, body.type, asked)
            tag = tags_store.create_tag(
                tx,
                key=body.key,
                name=clean_document(body.name) or body.key,
                category=body.category,
                type=type,
                document=document,
                now=now(),
                is_masked=not caller.sees_personal,
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
            old = require_tag(tx, key)
            category = body.category or old.category
            given = body.type or old.type
            require_one_of(category, CATEGORIES, "/category")
            require_one_of(given, TYPES, "/type")
            definition = Definition("tag", key, document, 0)
            kind = _check(services, tx, caller, definition, given, given)
            tag = tags_store.update_tag(
                tx,
                key,
                name=clean_document(body.name) or old.name,
                category=category,
                type=kind,
                document=document,
                now=now(),
                is_masked=not caller.sees_personal,
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


def _check(
    services: Segments,
    tx: Driver,
    caller: Caller,
    definition: Definition,
    type: str,
    asked: str | None,
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
    if not caller.sees_personal and asks_for_personal(document):
        message = "values of a personal property need a token with the scope pii:read"
        raise Forbidden("missing_scope", message, details={"missing": ["pii:read"]})
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
    return read_and_show(services, key)


def _awaits_query(services: Segments, key: str) -> bool:
    """Whether a tag's SQL has neither given values nor failed yet."""
    with services.database.transaction() as connection:
        tx = driver(connection)
        tag = require_tag(tx, key)
        failure = tag_failures_store.list_failures(tx).get(key)
    has_failed = failure is not None and failure.version == tag.version
    return "sql" in tag.document and tag.definition.is_behind and not has_failed
