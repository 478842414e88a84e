"""Privacy over HTTP: ask for a deletion, an export, silence; read the receipt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import NotFound, Unprocessable
from cdp.model import Identifier
from cdp.privacy import jobs_store as jobs
from cdp.privacy.archives_folder import Archives
from cdp.privacy.jobs_store import Job, Kind
from cdp.privacy.people_store import PROFILE_ID
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

Officer = Annotated[Caller, Depends(require("privacy:write"))]
Normalise = Callable[[str, object], str | None]

MOST_IDENTIFIERS = 10_000


class Named(BaseModel):
    """An identifier as a caller writes it; type ``id`` is any profile id ever issued."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str = Field(min_length=1, max_length=100)
    value: str | int


class Asked(BaseModel):
    """Whom it is about, and why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    identifier: Named | None = None
    identifiers: list[Named] | None = Field(None, min_length=1, max_length=MOST_IDENTIFIERS)
    reason: str = Field("", max_length=2000)


def create_router(
    database: Database, normalise: Normalise, archives: Archives, wake: Callable[[], None]
) -> APIRouter:
    """Return the routes. ``wake`` is called when there is something new to carry out."""
    router = APIRouter(tags=["privacy"])

    def ask(kind: Kind, caller: Caller, body: Asked) -> dict[str, Any]:
        names = _read_names(body, normalise)
        with database.transaction() as connection:
            tx = driver(connection)
            moment = now()
            job_id = jobs.add_job(
                tx, kind, names, reason=body.reason, actor=caller.actor, now=moment
            )
            details = {"identifiers": len(names)}
            audit_store.record(tx, caller.actor, f"privacy_{kind}", job_id, details)
        wake()
        return {
            "id": job_id,
            "receipt": job_id,
            "kind": kind,
            "status": "queued",
            "identifiers": len(names),
            "requested_at": format_time(moment),
        }

    @router.post("/v1/privacy/delete", status_code=202)
    def post_delete(caller: Officer, body: Asked) -> dict[str, Any]:
        """Delete whoever is named, wherever they are held."""
        return ask("delete", caller, body)

    @router.post("/v1/privacy/export", status_code=202)
    def post_export(caller: Officer, body: Asked) -> dict[str, Any]:
        """Put everything that is held of whoever is named into one archive."""
        return ask("export", caller, body)

    @router.post("/v1/privacy/suppress", status_code=202)
    def post_suppress(caller: Officer, body: Asked) -> dict[str, Any]:
        """Take nothing more from whoever is named, until this is withdrawn."""
        return ask("suppress", caller, body)

    @router.post("/v1/privacy/unsuppress", status_code=202)
    def post_unsuppress(caller: Officer, body: Asked) -> dict[str, Any]:
        """Take again what whoever is named sends."""
        return ask("unsuppress", caller, body)

    @router.get("/v1/privacy")
    def list_jobs(
        caller: Officer,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List what was asked, by people and by shops, newest first."""
        before = decode_cursor(cursor, tuple[datetime, str]) if cursor else None
        with database.snapshot() as connection:
            found = jobs.list_jobs(driver(connection), limit=limit + 1, before=before)
        page = found[:limit]
        more = len(found) > limit
        following = encode_cursor((page[-1].requested_at, page[-1].job_id)) if more else None
        return {"data": [_show(job, archives) for job in page], "next": following}

    @router.get("/v1/privacy/{job_id}")
    def get_job(caller: Officer, job_id: str) -> dict[str, Any]:
        """Show the receipt: how far it is, what was removed, from where and when."""
        with database.snapshot() as connection:
            return _show(_find(jobs.find_job(driver(connection), job_id)), archives)

    @router.get("/v1/privacy/{job_id}/archive", response_class=FileResponse)
    def get_archive(caller: Officer, job_id: str) -> FileResponse:
        """Download an export: a ZIP archive."""
        with database.transaction() as connection:
            tx = driver(connection)
            job = _find(jobs.find_job(tx, job_id))
            path = archives.path(job_id)
            if job.status != "done" or not path.exists():
                raise NotFound("no_archive", _say_why(job))
            audit_store.record(tx, caller.actor, "privacy_archive_read", job_id)
        return FileResponse(path, media_type="application/zip", filename=f"{job_id}.zip")

    return router


def _read_names(body: Asked, normalise: Normalise) -> list[Identifier]:
    if (body.identifier is None) == (body.identifiers is None):
        raise Unprocessable(
            "identifier_missing", "give `identifier`, or `identifiers`", path="/identifier"
        )
    named = [body.identifier] if body.identifier else list(body.identifiers or ())
    names: dict[Identifier, None] = {}
    for position, one in enumerate(named):
        value = str(one.value) if one.type == PROFILE_ID else normalise(one.type, one.value)
        if value is None or "\0" in one.type or "\0" in value:
            at = "/identifier" if body.identifier else f"/identifiers/{position}"
            raise Unprocessable(
                "names_nobody", "no identifier has such a value", path=f"{at}/value"
            )
        names[Identifier(one.type, value)] = None
    return list(names)


def _find(job: Job | None) -> Job:
    if job is None:
        raise NotFound("privacy_request_not_found", "nothing with this id was asked")
    return job


def _say_why(job: Job) -> str:
    if job.kind != "export":
        return "only an export has an archive"
    if job.archive_removed_at is not None:
        return "the archive was removed: its time was over, or somebody in it was deleted"
    if job.status != "done":
        return "the archive is not ready; look again soon"
    return "the archive lies on another server"


def _show(job: Job, archives: Archives) -> dict[str, Any]:
    hidden = (jobs.PARTS, "held")
    said = {key: value for key, value in job.receipt.items() if key not in hidden}
    shown: dict[str, Any] = {
        "id": job.job_id,
        "kind": job.kind,
        "status": job.status,
        "step": job.step,
        "waiting_for": job.waiting,
        "reason": job.reason,
        "actor": job.actor,
        "identifiers": job.identifiers,
        "requested_at": format_time(job.requested_at),
        "started_at": format_time(job.started_at) if job.started_at else None,
        "finished_at": format_time(job.finished_at) if job.finished_at else None,
    }
    if job.kind == "delete":
        removed = said.pop("removed", {})
        shown["removed"] = [{"store": store, **removed[store]} for store in sorted(removed)]
        shown["disk"] = said.get("disk")
    elif job.kind == "export":
        is_here = job.status == "done" and archives.path(job.job_id).exists()
        shown["archive"] = f"/v1/privacy/{job.job_id}/archive" if is_here else None
        shown |= {"people": said.get("people"), "files": said.get("files")}
    else:
        shown["changed"] = said.get("identifiers")
    return shown
