"""Sources, their keys, what became of their events, and what was refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.ingest import sources_store
from cdp.ingest.accounting_store import Minute, read_accounting
from cdp.ingest.rejected_store import RejectedFilter, list_rejected, show_rejected
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import SourceRow
from cdp.log.port import Log
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

SMALLEST_EVENT, LARGEST_EVENT = 256, 4 * 1024 * 1024

May = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[AwareDatetime | None, Query(alias="from")]
Until = Annotated[AwareDatetime | None, Query(alias="to")]
Settings = dict[str, Any]


def _check_settings(settings: Settings | None) -> Settings | None:
    size = (settings or {}).get("max_event_bytes")
    if size is None:
        return settings
    if isinstance(size, bool) or not isinstance(size, int):
        raise ValueError("max_event_bytes is a whole number")
    if not SMALLEST_EVENT <= size <= LARGEST_EVENT:
        raise ValueError(f"max_event_bytes lies between {SMALLEST_EVENT} and {LARGEST_EVENT}")
    return settings


class NewSource(BaseModel):
    """What a source is called, and what kind of system it is."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    type: Literal["web", "app", "server", "store", "crm", "erp", "service", "shop"]
    settings: Settings = Field(default_factory=dict)

    _settings = field_validator("settings")(_check_settings)


class SourcePatch(BaseModel):
    """What to change of a source; what is absent stays. In ``settings`` null removes a key."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200)
    settings: Settings | None = None
    disabled: bool | None = None

    _settings = field_validator("settings")(_check_settings)


def create_router(database: Database, directory: SourceDirectory, log: Log) -> APIRouter:
    """Return the routes of sources, accounting and refused events."""
    router = APIRouter(tags=["sources"])

    @router.get("/v1/sources")
    def list_sources(caller: May, limit: Limit = 100, cursor: str | None = None) -> dict[str, Any]:
        """List the sources, oldest first, with their write keys."""
        after = decode_cursor(cursor, tuple[datetime, str]) if cursor else None
        with database.transaction() as connection:
            rows = sources_store.list_sources(driver(connection), limit=limit + 1, after=after)
        page, more = rows[:limit], len(rows) > limit
        last = page[-1] if more else None
        following = encode_cursor((last.created_at, last.source.source_id)) if last else None
        return {"data": [show_source(row) for row in page], "next": following}

    @router.post("/v1/sources", status_code=201)
    def create_source(caller: May, body: NewSource) -> dict[str, Any]:
        """Make a source with its first write key."""
        with database.transaction() as connection:
            tx = driver(connection)
            source, write_key = sources_store.create_source(tx, body.name, body.type, body.settings)
            details = {"name": body.name, "type": body.type}
            audit_store.record(tx, caller.actor, "source_created", source.source_id, details)
            row = sources_store.find_source(tx, source.source_id)
        directory.refresh()
        return show_source(row) | {"write_key": write_key}

    @router.get("/v1/sources/{source_id}")
    def get_source(caller: May, source_id: str) -> dict[str, Any]:
        """Show one source."""
        with database.transaction() as connection:
            return show_source(sources_store.find_source(driver(connection), source_id))

    @router.patch("/v1/sources/{source_id}")
    def patch_source(caller: May, source_id: str, body: SourcePatch) -> dict[str, Any]:
        """Change a source; a disabled one's keys are refused until it is enabled again."""
        with database.transaction() as connection:
            tx = driver(connection)
            row = sources_store.patch_source(
                tx, source_id, name=body.name, settings=body.settings, disabled=body.disabled
            )
            details = {"changed": sorted(body.model_fields_set)}
            audit_store.record(tx, caller.actor, "source_changed", source_id, details)
        directory.refresh()
        return show_source(row)

    @router.post("/v1/sources/{source_id}/keys", status_code=201)
    def create_key(caller: May, source_id: str) -> dict[str, Any]:
        """Give a source one more write key; the old ones go on until they are deleted."""
        with database.transaction() as connection:
            tx = driver(connection)
            key_id, write_key = sources_store.add_key(tx, source_id)
            audit_store.record(tx, caller.actor, "key_created", source_id, {"key": key_id})
        directory.refresh()
        return {"id": key_id, "write_key": write_key}

    @router.delete("/v1/sources/{source_id}/keys/{key_id}", status_code=204)
    def delete_key(caller: May, source_id: str, key_id: str) -> Response:
        """Make a write key useless: here at once, on other nodes within a second."""
        with database.transaction() as connection:
            tx = driver(connection)
            sources_store.delete_key(tx, source_id, key_id)
            audit_store.record(tx, caller.actor, "key_deleted", source_id, {"key": key_id})
        directory.refresh()
        return Response(status_code=204)

    @router.get("/v1/sources/{source_id}/accounting")
    def get_accounting(
        caller: May, source_id: str, since: Since = None, until: Until = None
    ) -> dict[str, Any]:
        """Say per minute what was received and what became of it."""
        with database.transaction() as connection:
            sources_store.find_source(driver(connection), source_id)
        minutes = read_accounting(database, log, source_id, since, until)
        return {"data": [_show_minute(minute) for minute in minutes]}

    @router.get("/v1/rejected")
    def get_rejected(
        caller: May,
        source: str | None = None,
        code: str | None = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List refused events with reason and bytes, newest first."""
        before = decode_cursor(cursor, tuple[int])[0] if cursor else None
        wanted = RejectedFilter(source, code, since, until)
        with database.transaction() as connection:
            rows = list_rejected(driver(connection), wanted, limit=limit + 1, before=before)
        page, more = rows[:limit], len(rows) > limit
        return {
            "data": [show_rejected(row, sees_personal=caller.sees_personal) for row in page],
            "next": encode_cursor((page[-1].number,)) if more else None,
        }

    return router


def show_source(row: SourceRow) -> dict[str, Any]:
    """Return the JSON object of a source; its newest key is the one to use."""
    return {
        "id": row.source.source_id,
        "name": row.source.name,
        "type": row.source.type,
        "settings": row.source.settings,
        "created_at": format_time(row.created_at),
        "disabled": row.disabled_at is not None,
        "write_key": row.keys[-1].write_key if row.keys else None,
        "keys": [
            {
                "id": key.key_id,
                "write_key": key.write_key,
                "created_at": format_time(key.created_at),
            }
            for key in row.keys
        ],
    }


def _show_minute(minute: Minute) -> dict[str, Any]:
    return {
        "minute": format_time(minute.minute),
        "received": minute.received,
        "stored": minute.stored,
        "duplicate": minute.duplicate,
        "rejected": minute.rejected,
        "in_flight": minute.in_flight,
        "balanced": minute.balanced,
    }
