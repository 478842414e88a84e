"""``/v1/imports``: upload a file, follow its import, see what was refused, cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.ingest.imports import imports_store as store
from cdp.ingest.imports.imports_store import Import
from cdp.ingest.imports.read_form import read_form
from cdp.ingest.imports.receive_upload import Upload, receive_upload
from cdp.ingest.imports.start_import import Imports
from cdp.ingest.rejected_store import mask_raw
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, driver

May = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
WriteReceipt = Callable[[Mapping[int, int]], str]
"""From the offsets that were reached to a receipt."""

_TEXT = {"type": "string"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["kind"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "CSV, NDJSON or Parquet, also as gzip or zstd.",
                        },
                        "kind": {"enum": ["events", "profiles", "orders", "accounts"]},
                        "mapping": {**_TEXT, "description": "JSON; {} for wire-format rows."},
                        "preset": _TEXT,
                        "source": {**_TEXT, "description": "Default: a source named Imports."},
                        "dry_run": {"type": "boolean"},
                        "again": {
                            "type": "boolean",
                            "description": "Import a finished file again; nothing doubles.",
                        },
                        "digest": {
                            **_TEXT,
                            "description": "SHA-256 of the file. Without `file`: go on with the"
                            " import of that file, 404 `upload_needed` when there is none.",
                        },
                        "partial": {
                            "type": "boolean",
                            "description": "With dry_run: only the file's beginning is sent.",
                        },
                    },
                }
            }
        },
    }
}


def create_router(database: Database, imports: Imports, write_receipt: WriteReceipt) -> APIRouter:
    """Return the routes of imports."""
    router = APIRouter(tags=["imports"])
    uploads = imports.runner.uploads

    @router.post("/v1/imports", status_code=202, openapi_extra=_FORM)
    async def create_import(caller: May, request: Request) -> Response:
        """Import a file: 202 with the import's id; a dry run answers 200 with what it would do."""
        import_id = store.make_import_id()
        upload = await receive_upload(request, uploads, import_id)
        return await run_in_threadpool(answer, import_id, upload, caller)

    def answer(import_id: str, upload: Upload, caller: Caller) -> Response:
        try:
            order = read_form(upload.fields)
            if order.is_dry_run:
                shown = imports.preview(order, upload, caller)
                note_people(len(shown["rows"]) + len(shown["mistakes"]))
                return JSONResponse(shown)
            started = imports.start(import_id, order, upload, caller)
            shown = show_import(started.found, write_receipt)
            return JSONResponse({**shown, "existing": not started.is_new}, 202)
        finally:
            if upload.file is not None:
                upload.file.discard()

    @router.get("/v1/imports")
    def list_imports(
        caller: May,
        status: Literal["queued", "running", "done", "failed"] | None = None,
        source: str | None = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List imports, newest first."""
        before = decode_cursor(cursor, tuple[datetime, str]) if cursor else None
        with database.transaction() as connection:
            rows = store.list_imports(
                driver(connection), limit=limit + 1, status=status, source_id=source, before=before
            )
        page, following = cut_page(rows, limit, lambda row: (row.created_at, row.import_id))
        return {"data": [show_import(row, write_receipt) for row in page], "next": following}

    @router.get("/v1/imports/{import_id}")
    def get_import(caller: May, import_id: str) -> dict[str, Any]:
        """Show how far an import has come."""
        with database.transaction() as connection:
            return show_import(store.find_import(driver(connection), import_id), write_receipt)

    @router.get("/v1/imports/{import_id}/rejected")
    def get_rejected_rows(
        caller: May, import_id: str, limit: Limit = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List the rows that were refused, in the order of the file."""
        after = decode_cursor(cursor, tuple[int])[0] if cursor else 0
        with database.transaction() as connection:
            store.find_import(driver(connection), import_id)
            rows = store.list_rejected_rows(
                driver(connection), import_id, limit=limit + 1, after=after
            )
        page, following = cut_page(rows, limit, lambda row: (row.row,))
        note_people(len(page))
        shown = [
            {
                "row": row.row,
                "code": row.code,
                "message": row.message,
                "raw": row.raw.decode("utf-8", "replace")
                if caller.sees_personal
                else mask_raw(row.raw),
            }
            for row in page
        ]
        return {"data": shown, "next": following}

    @router.post("/v1/imports/{import_id}/cancel")
    def cancel_import(caller: May, import_id: str) -> dict[str, Any]:
        """End an import; what it has taken stays. One that has ended stays as it is."""
        return show_import(imports.cancel(import_id, caller), write_receipt)

    @router.delete("/v1/imports/{import_id}", status_code=204)
    def delete_import(caller: May, import_id: str) -> Response:
        """Cancel an import and remove its file."""
        imports.cancel(import_id, caller)
        uploads.remove(import_id)
        return Response(status_code=204)

    return router


def show_import(one: Import, write_receipt: WriteReceipt) -> dict[str, Any]:
    """Return the JSON object of an import."""
    error = {"code": one.error_code, "message": one.error_message} if one.error_code else None
    reached = {int(partition): offset for partition, offset in one.reached.items()}
    return {
        "id": one.import_id,
        "status": one.status,
        "kind": one.kind,
        "source_id": one.source_id,
        "mapping": one.mapping,
        "file": {
            "name": one.file_name,
            "size": one.size,
            "digest": f"sha256:{one.digest}",
            "format": one.format,
        },
        "rows": one.rows,
        "accepted": one.accepted,
        "rejected": one.rejected,
        "progress": round(one.share, 4),
        "rate": None if one.rate is None else round(one.rate, 1),
        "eta": _estimate_end(one),
        "waiting": one.waiting,
        "error": error,
        "receipt": write_receipt(reached) if reached else None,
        "created_by": one.created_by,
        "created_at": format_time(one.created_at),
        "started_at": _show_time(one.started_at),
        "updated_at": format_time(one.updated_at),
        "finished_at": _show_time(one.finished_at),
    }


def _estimate_end(one: Import) -> str | None:
    """Return when it will be done if it goes on as it does: rows left at the present rate."""
    if one.status != "running" or not one.rate or not one.share:
        return None
    seconds = one.rows / one.share * (1 - one.share) / one.rate
    return format_time(datetime.fromtimestamp(now().timestamp() + seconds, now().tzinfo))


def _show_time(at: datetime | None) -> str | None:
    return None if at is None else format_time(at)
