"""The servers that the ingest bench compares: ``python -m bench.ingest_server KIND PORT CORE``.

``bare`` reads the body and answers; ``ours`` is the program's door over a log that acknowledges at
once; ``textbook`` is the FastAPI endpoint with a pydantic model that everybody writes first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, cast

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from cdp.ingest.asgi import IngestApp
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.log.port import Log, NewRecord
from cdp.model import Source
from cdp.runtime.bounded_http import bound_http
from cdp.runtime.memory import collect_rarely
from cdp.runtime.metrics import Metrics
from cdp.services import Services
from cdp.serving import Serving
from cdp.settings import Settings

WRITE_KEY = "bench"


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, answer two bytes."""
    if scope["type"] != "http":
        return
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    _ = b"".join(chunks)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


class InstantLog:
    """Acknowledges at once, so that the door alone is measured."""

    name = "bench"
    partitions = 8

    def __init__(self) -> None:
        self._next = [0] * self.partitions

    def append(self, records: Sequence[NewRecord]) -> Future[list[int]]:
        offsets: list[int] = []
        for record in records:
            offsets.append(self._next[record.partition])
            self._next[record.partition] += 1
        answer: Future[list[int]] = Future()
        answer.set_result(offsets)
        return answer


class OneSource:
    """Knows the bench's key."""

    # A limit that is never reached costs what any limit costs.
    _source = Source("src_bench", 1, "bench", "web", {"rate_limit": 1_000_000_000})

    def by_key(self, write_key: str) -> Source | None:
        return self._source if write_key == WRITE_KEY else None


def ours() -> ASGIApp:
    """The program from its outermost layer inwards: what counts requests, then the door."""
    settings = Settings()
    writer = PackingWriter(cast(Log, InstantLog()), settings.linger_ms)
    metrics = Metrics()
    door = IngestApp(
        cast(SourceDirectory, OneSource()),
        writer,
        settings,
        bare,
        on_refused=metrics.count_refusal,
    )
    services = SimpleNamespace(metrics=metrics, roles=frozenset({"ingest"}))
    return Serving(door, cast(Services, services))


class Event(BaseModel):
    """The wire event as a pydantic model."""

    type: Literal["track", "identify", "page", "screen", "group", "alias"]
    messageId: str  # noqa: N815
    timestamp: datetime
    userId: str | None = None  # noqa: N815
    anonymousId: str | None = None  # noqa: N815
    event: str | None = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    context: dict[str, Any] = {}
    integrations: dict[str, Any] = {}


class Batch(BaseModel):
    """Events as the SDKs send them together."""

    batch: list[Event]
    sentAt: datetime | None = None  # noqa: N815


_basic = HTTPBasic()


def _check(credentials: Annotated[HTTPBasicCredentials, Depends(_basic)]) -> None:
    if credentials.username != WRITE_KEY:
        raise HTTPException(401)


def textbook() -> ASGIApp:
    """The endpoint that everybody writes first."""
    app = FastAPI(dependencies=[Depends(_check)])

    @app.post("/v1/track")
    async def take_event(event: Event) -> dict[str, bool]:
        return {"success": event.type == "track"}

    @app.post("/v1/batch")
    async def take_batch(batch: Batch) -> dict[str, int]:
        return {"accepted": len(batch.batch)}

    return app


def main() -> None:
    """Serve until killed."""
    kind, port, core = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if hasattr(os, "sched_setaffinity") and core >= 0:
        os.sched_setaffinity(0, {core})
    apps = {"bare": lambda: bare, "ours": ours, "textbook": textbook}
    http: Any = "httptools"
    if kind == "ours":
        collect_rarely()  # as `cdp serve` does
        http = bound_http(
            max_connections=4000, max_header_bytes=65536, header_seconds=10, leftover_seconds=30
        )
    uvicorn.run(
        apps[kind](), port=port, loop="uvloop", http=http, log_config=None,
        access_log=False, server_header=False, lifespan="off", backlog=2048,
    )  # fmt: skip


if __name__ == "__main__":
    main()
