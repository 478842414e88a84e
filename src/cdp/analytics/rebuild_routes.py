"""Feeding DuckDB anew, over HTTP: ask for it, and see how far it is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.analytics.rebuild_store import Rebuild, Run, ask, find_newest
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, driver

Admin = Annotated[Caller, Depends(require("admin"))]


def create_router(database: Database, place: str) -> APIRouter:
    """Return the routes; ``place`` names the file of this process."""
    router = APIRouter(tags=["sql"])

    @router.post("/v1/analytics/rebuild", status_code=202)
    def post_rebuild(caller: Admin) -> dict[str, Any]:
        """Drop what DuckDB holds and feed it again from Postgres; meanwhile reading it is 503.

        Asking again before it is done changes nothing.
        """
        with database.transaction() as connection:
            asked = ask(driver(connection), place, caller.actor)
        return _show(asked, place)

    @router.get("/v1/analytics/rebuild")
    def get_rebuild(caller: Admin) -> dict[str, Any]:
        """Show how far the newest rebuild is; `state` and `share` are those of this process."""
        with database.snapshot() as connection:
            asked = find_newest(driver(connection))
        if asked is None:
            return {"id": None, "state": "done", "share": 1.0, "asked_at": None, "runs": []}
        return _show(asked, place)

    return router


def _show(asked: Rebuild, place: str) -> dict[str, Any]:
    run = asked.runs.get(place)
    return {
        "id": str(asked.rebuild_no),
        "state": asked.state_at(place),
        "share": 0.0 if run is None else round(run.share, 4),
        "asked_at": format_time(asked.asked_at),
        "asked_by": asked.actor,
        "runs": [_show_run(one) for one in asked.runs.values()],
    }


def _show_run(run: Run) -> dict[str, Any]:
    return {
        "place": run.place,
        "state": run.state,
        "share": round(run.share, 4),
        "batches": run.batches,
        "batches_total": run.batches_total,
        "started_at": format_time(run.started_at),
        "finished_at": format_time(run.finished_at) if run.finished_at else None,
    }
