"""The servers that the benches of the door compare.

``python -m bench.ingest_server KIND PORT CORE [KAFKA TOPIC]``: ``bare`` reads the body and answers;
``ours`` is the program's door over a log that acknowledges at once; ``textbook`` is the FastAPI
endpoint with a pydantic model that everybody writes first. ``durable`` and ``textbook_durable`` are
the latter two over a real Kafka, answering when it has acknowledged.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, cast

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from kafka import KafkaProducer
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from cdp.ingest.asgi import IngestApp
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.log.kafka_log import KafkaLog
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


def ours(log: Log | None = None) -> ASGIApp:
    """The program from its outermost layer inwards: what counts requests, then the door."""
    settings = Settings()
    writer = PackingWriter(log or cast(Log, InstantLog()), settings.linger_ms)
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


def textbook_durable(servers: str, topic: str) -> ASGIApp:
    """The same over Kafka: one ``send()`` per event, and the answer when all are acknowledged."""
    app = FastAPI(dependencies=[Depends(_check)])
    producer = KafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=5
    )

    def send(events: list[Event]) -> None:
        sent = [
            producer.send(
                topic,
                value=event.model_dump_json().encode(),
                key=(event.userId or event.anonymousId or "").encode(),
            )
            for event in events
        ]
        for one in sent:
            one.get(timeout=30)

    # Not async: the client library waits in the thread that asks it to.
    @app.post("/v1/track")
    def take_event(event: Event) -> dict[str, bool]:
        send([event])
        return {"success": True}

    @app.post("/v1/batch")
    def take_batch(batch: Batch) -> dict[str, int]:
        send(batch.batch)
        return {"accepted": len(batch.batch)}

    return app


def _open_log(servers: str, topic: str) -> Log:
    return KafkaLog(Settings(kafka_bootstrap_servers=servers, kafka_topic=topic))


def main() -> None:
    """Serve until killed."""
    kind, port, core = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    kafka = sys.argv[4:]
    if hasattr(os, "sched_setaffinity") and core >= 0:
        os.sched_setaffinity(0, {core})
    apps: dict[str, Callable[[], ASGIApp]] = {
        "bare": lambda: cast(ASGIApp, bare),
        "ours": ours,
        "textbook": textbook,
        "durable": lambda: ours(_open_log(*kafka)),
        "textbook_durable": lambda: textbook_durable(*kafka),
    }
    http: Any = "httptools"
    if kind in ("ours", "durable"):
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
