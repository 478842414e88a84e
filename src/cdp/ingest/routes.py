"""What became of the events of a source, over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.ingest import sources_store
from cdp.ingest.accounting_store import Minute, read_accounting
from cdp.log.port import Log
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

May = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[AwareDatetime | None, Query(alias="from")]
Until = Annotated[AwareDatetime | None, Query(alias="to")]

_CUSTOMARY = timedelta(hours=24)


def create_router(database: Database, log: Log) -> APIRouter:
    """Return the route of accounting."""
    router = APIRouter(tags=["sources"])

    @router.get("/v1/sources/{source_id}/accounting")
    def get_accounting(
        caller: May,
        source_id: str,
        since: Since = None,
        until: Until = None,
        limit: Limit = 1000,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Say per minute what was received and what became of it, oldest first.

        Without `from` these are the 24 hours before `to`, or before now.
        """
        with database.transaction() as connection:
            sources_store.find_source(driver(connection), source_id)
        if cursor:
            since = decode_cursor(cursor, tuple[datetime])[0]
        elif since is None:
            since = (until or now()) - _CUSTOMARY
        minutes = read_accounting(database, log, source_id, since, until, limit=limit + 1)
        page, more = minutes[:limit], minutes[limit:]
        return {
            "data": [_show_minute(minute) for minute in page],
            "next": encode_cursor((more[0].minute,)) if more else None,
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
