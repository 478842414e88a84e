"""Tags over HTTP as they are read: the list, one of them, its spread, its changes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from cdp.access.masking import mask_value
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.segments import tag_failures_store, tag_values_engine, tags_store
from cdp.segments.membership_store import read_head
from cdp.segments.paths import read_path
from cdp.segments.service import Limit, SegmentReader, Segments
from cdp.segments.show_tag import read_and_show, read_computations, show_tag
from cdp.segments.tag_history_routes import require_tag, show_known
from cdp.segments.tag_moves import describe_move
from cdp.segments.tag_place import read_place
from cdp.segments.tags import CATEGORIES, require_one_of
from cdp.segments.transitions import find_field
from cdp.storage.database import driver
from cdp.storage.tag_horizon_store import read_tag_horizon


def add_reading(router: APIRouter, services: Segments) -> None:
    """Add the routes that read tags to ``router``."""

    @router.get("/v1/tags")
    def list_tags(
        caller: SegmentReader,
        category: Annotated[str | None, Query(description="Only those of a category.")] = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List tags by key."""
        if category is not None:
            require_one_of(category, CATEGORIES, "/category")
        after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            tx = driver(connection)
            found = tags_store.list_tags(tx, limit=limit + 1, after=after, category=category)
            computed = read_computations(tx, found)
            failures = tag_failures_store.list_failures(tx)
        page, following = cut_page(found, limit, lambda tag: (tag.key,))
        counts = tag_values_engine.count_by_tag(services.reader)
        rows = [
            show_tag(
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
        return read_and_show(services, key)

    @router.get("/v1/tags/{key}/distribution")
    def get_distribution(
        caller: SegmentReader,
        key: str,
        field: Annotated[str | None, Query(description="A dotted path into the value.")] = None,
    ) -> dict[str, Any]:
        """Show how many profiles have each value, most first."""
        freshness = services.freshness()
        with services.database.transaction() as connection:
            require_tag(driver(connection), key)
        path = read_path(field) if field else ()
        rows = tag_values_engine.read_distribution(services.reader, key, path)
        if not caller.sees_personal:
            rows = [{**row, "value": mask_value(row["value"])} for row in rows]
        return {"data": rows, "next": None, **freshness}

    @router.get("/v1/tags/{key}/changes")
    def list_changes(
        caller: SegmentReader, key: str, since: str | None = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List the values that profiles took and lost, in order; ``next`` is always given.

        Without ``since`` it begins with values that hold since before what is kept.
        """
        freshness = services.freshness()
        with services.database.snapshot() as connection:
            tx = driver(connection)
            tag = require_tag(tx, key)
            horizon = read_tag_horizon(tx)
            place = read_place(key, since, tag.first_change_no, horizon.dropped_until)
            found = tags_store.list_tag_changes(tx, key, after=place.change_no, limit=limit)
            newest = read_head(tx).change_no
        following = place.go_on(
            [row.change_no for row in found], limit, newest, horizon.dropped_until
        )
        field = find_field(tag.document)
        mask = _leave if caller.sees_personal else mask_value
        rows = [
            {
                "profile_id": row.profile_id,
                # Null, too, when it was closed before what is kept.
                "from": mask(row.before),
                "to": mask(row.value),
                "value": mask(row.value),
                "at": format_time(row.at),
                "cause": row.cause,
                "reason": describe_move(mask(row.before), mask(row.value), field),
                "version": row.version,
            }
            for row in found
        ]
        return {"data": rows, "next": encode_cursor(following), **show_known(horizon), **freshness}


def _leave(value: Any) -> Any:
    return value
