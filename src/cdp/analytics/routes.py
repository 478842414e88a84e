"""SQL over HTTP: ``POST /v1/query`` and the catalogue that goes with it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, StreamingResponse

from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.analytics import catalogue
from cdp.analytics.answer_formats import FORMATS, to_records
from cdp.analytics.descriptions import describe_column, describe_table
from cdp.analytics.engine import Engine
from cdp.analytics.export_engine import MEDIA_TYPES, ExportFormat, export_table
from cdp.analytics.query import Answer, Schema, run_query
from cdp.receipts import after_analytics
from cdp.runtime.clock import format_time, now
from cdp.settings import Settings

_AT_A_TIME = 4


class QueryBody(BaseModel):
    """One SELECT. ``params`` is a list for ``?`` and ``$1``, an object for ``$name``."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(min_length=1)
    params: list[Any] | dict[str, Any] | None = None
    limit: int | None = Field(None, ge=0, description="Rows at most; the server has its own cap.")
    format: Literal["json", "arrow", "csv", "parquet"] = "json"


def create_router(engine: Engine, settings: Settings) -> APIRouter:
    """Return the routes over ``engine``."""
    router = APIRouter(tags=["sql"])
    # Long statements wait for each other, not everybody else for a thread.
    limiter = CapacityLimiter(_AT_A_TIME)

    def answer_query(body: QueryBody, schema: Schema) -> Response:
        most = settings.query_max_rows
        answer = run_query(
            engine,
            body.sql,
            body.params,
            schema=schema,
            limit=most if body.limit is None else min(body.limit, most),
            timeout=settings.query_timeout_seconds,
        )
        note_people(answer.rows.num_rows)
        if body.format == "json":
            return JSONResponse(_to_body(engine, answer))
        media, write = FORMATS[body.format]
        return Response(
            write(answer.columns, answer.rows),
            media_type=media,
            headers=_freshness_headers(engine, answer),
        )

    @router.post(
        "/v1/query",
        response_model=None,
        dependencies=[Depends(after_analytics)],
        responses={200: {"content": {media: {} for media, _ in FORMATS.values()}}},
    )
    async def query(
        caller: Annotated[Caller, Depends(require("sql:read"))], body: QueryBody
    ) -> Response:
        """Run one SELECT, read only, over the tables of ``/v1/schema``."""
        run = partial(answer_query, body, _schema_for(caller))
        return await run_sync(run, limiter=limiter)

    @router.get(
        "/v1/export/{table}",
        dependencies=[Depends(after_analytics)],
        responses={200: {"content": {media: {} for media in MEDIA_TYPES.values()}}},
    )
    def export(
        caller: Annotated[Caller, Depends(require("sql:read"))],
        table: str,
        format: ExportFormat = "ndjson",
    ) -> StreamingResponse:
        """Stream a whole table of ``/v1/schema``, as of one moment."""
        parts = export_table(engine, table, _schema_for(caller), format, note=note_people)
        as_of = engine.as_of()
        headers = {"Content-Disposition": f'attachment; filename="export.{format}"'}
        if as_of is not None:
            headers |= {"X-As-Of": format_time(as_of), "X-Lag-Ms": str(engine.lag_ms(now()))}
        return StreamingResponse(parts, media_type=MEDIA_TYPES[format], headers=headers)

    @router.get("/v1/schema")
    def schema(caller: Annotated[Caller, Depends(require())]) -> dict[str, Any]:
        """List the tables for SQL with their columns, each described."""
        with engine.cursor() as duck:
            tables = catalogue.list_tables(duck, _schema_for(caller))
        return {
            "tables": [
                {
                    "name": name,
                    "description": describe_table(name),
                    "columns": [
                        {
                            "name": column,
                            "type": kind,
                            "description": describe_column(name, column),
                        }
                        for column, kind in columns
                    ],
                }
                for name, columns in tables.items()
            ],
            "as_of": _format(engine.as_of()),
            "lag_ms": engine.lag_ms(now()),
        }

    return router


def _schema_for(caller: Caller) -> Schema:
    return "main" if caller.sees_personal else "masked"


def _to_body(engine: Engine, answer: Answer) -> dict[str, Any]:
    return {
        "columns": [{"name": name, "type": kind} for name, kind in answer.columns],
        "data": to_records(answer.columns, answer.rows),
        "truncated": answer.truncated,
        "as_of": _format(answer.as_of),
        "lag_ms": engine.lag_ms(now()),
    }


def _freshness_headers(engine: Engine, answer: Answer) -> dict[str, str]:
    headers = {"X-Truncated": "true" if answer.truncated else "false"}
    if answer.as_of is not None:
        headers["X-As-Of"] = _format(answer.as_of) or ""
        headers["X-Lag-Ms"] = str(engine.lag_ms(now()))
    return headers


def _format(time: Any) -> str | None:
    return None if time is None else format_time(time)
