"""The archive over HTTP: what it holds, and a run of it now."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.archive.archive_store import ArchiveBusy
from cdp.archive.archiver import Archiver
from cdp.archive.keep_time import let_go, read_cutoffs
from cdp.archive.status_store import read_held
from cdp.errors import Conflict, Unavailable
from cdp.storage.database import Database, driver

Admin = Annotated[Caller, Depends(require("admin"))]


class Asked(BaseModel):
    """How far to go."""

    model_config = ConfigDict(extra="forbid")

    through: date | None = None
    """Days up to this one are closed early; rows that come later are added to them."""


def create_router(database: Database, archiver: Archiver | None) -> APIRouter:
    """Return the routes; ``None``: there is no archive."""
    router = APIRouter(tags=["archive"])

    @router.get("/v1/archive")
    def get_archive(caller: Admin) -> dict[str, Any]:
        """Show where the archive lies and what it holds."""
        with database.snapshot() as connection:
            held = read_held(driver(connection))
        return {
            "place": None if archiver is None else archiver.folder.name,
            "closes_after_days": None if archiver is None else archiver.after_days,
            "postgres_keeps_days": (archiver.keep_days or None) if archiver else None,
            **held._asdict(),
        }

    @router.post("/v1/archive/run")
    def post_run(caller: Admin, body: Asked | None = None) -> dict[str, Any]:
        """Remove what is past its time, archive what is due, drop from Postgres what may go.

        Returns when all is done. It happens by itself once an hour.
        """
        if archiver is None:
            raise Conflict("no_archive", "CDP_ARCHIVE_URL is off")
        with database.transaction() as connection:
            audit_store.record(driver(connection), caller.actor, "archive_run", "archive")
        try:
            moment = archiver.now()
            cutoffs = read_cutoffs(database, moment)
            removed = let_go(database, archiver.folder, cutoffs, moment)
            ran = archiver.run(body.through if body else None)
        except ArchiveBusy:
            raise Unavailable(
                "archive_busy", "a run, a deletion or retention is at the archive", retry_after=5
            ) from None
        return {
            "archived": ran.archived,
            "dropped": ran.dropped,
            "failed": ran.failed,
            "rows": ran.rows,
            "removed": removed,
        }

    return router
