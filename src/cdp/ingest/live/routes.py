"""``GET /v1/sources/{id}/live``: what arrives and what becomes of it, as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.ingest import sources_store
from cdp.ingest.live.listener import Listener
from cdp.ingest.live.tail import LiveTail
from cdp.storage.database import Database, driver

_SEND_SECONDS = 60.0
"""Whoever takes nothing for so long has left without a word."""
_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    # Asks proxies not to collect the answer before they pass it on.
    "X-Accel-Buffering": "no",
}


class LiveResponse(StreamingResponse):
    """Streams what a listener is told, and lets go of the listener however the stream ends."""

    media_type = "text/event-stream"

    def __init__(self, tail: LiveTail, listener: Listener) -> None:
        super().__init__(listener.frames(), headers=_HEADERS)
        self._tail = tail
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(_SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            return
        finally:
            note_people(self._listener.shown)
            self._tail.leave(self._listener)


def create_router(database: Database, tail: LiveTail) -> APIRouter:
    """Return the route that shows what arrives."""
    router = APIRouter(tags=["sources"])

    def check_source(source_id: str) -> None:
        with database.transaction() as connection:
            sources_store.find_source(driver(connection), source_id)

    @router.get(
        "/v1/sources/{source_id}/live",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def watch_source(
        caller: Annotated[Caller, Depends(require("sources:write"))], source_id: str
    ) -> Response:
        """Stream each element that arrives from now on, and what became of it.

        Messages are `data: {…}` with a `state`: `received`, then `stored`, `duplicate` or
        `rejected`; `skipped` with a `count` when more came than could be sent; `ended`.
        """
        await run_in_threadpool(check_source, source_id)
        listener = await tail.listen(source_id, sees_personal=caller.sees_personal)
        return LiveResponse(tail, listener)

    return router
