"""What became of the events of a source, and what was refused, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.ingest import sources_store
from cdp.ingest.accounting_store import Minute, read_accounting
from cdp.ingest.rejected_store import RejectedFilter, list_rejected, show_rejected
from cdp.log.port import Log
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

May = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[AwareDatetime | None, Query(alias="from")]
Until = Annotated[AwareDatetime | None, Query(alias="to")]


def create_router(database: Database, log: Log) -> APIRouter:
    """Return the routes of accounting and refused events."""
    router = APIRouter(tags=["sources"])

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
