"""``POST /v1/hooks/{source_id}``: what shops send by themselves, in plain ASGI.

    source ─► body ─► signature ─► map and judge ─► log ─► 200, and only then

Nothing asks Postgres. Whatever a shop that signs sends is answered 200 once it is on disk, be it
understood or kept as refused: shops give up hooks that are refused again and again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from cdp import receipts
from cdp.errors import CdpError, Forbidden, NotFound, Unauthorized
from cdp.ingest.answers import Answer, answer_json, answer_refused, refuse_method
from cdp.ingest.body import BodyReader, ClientLeft, inflate
from cdp.ingest.cors import find_header
from cdp.ingest.cors_app import send_answer
from cdp.ingest.door import Door, write_rejected, write_request
from cdp.ingest.hook_lines import JudgedDelivery, judge_delivery
from cdp.ingest.hooks.delivery import Delivery
from cdp.ingest.hooks.presets import HOOKS
from cdp.ingest.hooks.signature import is_signed
from cdp.ingest.hooks.woocommerce import is_trial
from cdp.ingest.lag_gate import LagGate
from cdp.ingest.packing import Offsets, PackingWriter, RequestLog
from cdp.ingest.parse import Judged
from cdp.ingest.source_directory import SourceDirectory
from cdp.model import Source
from cdp.runtime.clock import format_time, now
from cdp.settings import Settings

PREFIX = "/v1/hooks/"
TEMPLATE = "/v1/hooks/{source_id}"

_NOTHING = JudgedDelivery({}, Judged())


class HooksApp:
    """Serves the hooks and passes on the rest. For one event loop.

    Without a ``writer`` (a process without the role) hooks are the fallback's as well.
    """

    def __init__(
        self,
        directory: SourceDirectory,
        writer: PackingWriter | None,
        door: Door,
        settings: Settings,
        fallback: ASGIApp,
        gate: LagGate | None = None,
        on_refused: Callable[[str], None] = lambda code: None,
    ) -> None:
        """``gate`` says when the workers are too far behind.

        ``on_refused`` gets the code of every error that is answered.
        """
        self._directory = directory
        self._writer = writer
        self._door = door
        self._fallback = fallback
        self._gate = LagGate(0) if gate is None else gate
        self._on_refused = on_refused
        self._max_request_bytes = settings.max_request_bytes
        self._bodies = BodyReader(
            settings.max_request_bytes, settings.body_seconds, settings.max_buffered_bytes
        )
        self._prefix = f"hook_{os.urandom(5).hex()}"
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        source_id = path.removeprefix(PREFIX)
        writer = self._writer
        if writer is None or not path.startswith(PREFIX) or not source_id or "/" in source_id:
            await self._fallback(scope, receive, send)
            return
        scope["cdp.route"] = TEMPLATE
        try:
            if scope["method"] == "POST":
                answer = await self._take(source_id, scope, receive, writer)
            else:
                answer = refuse_method(("POST",))
        except CdpError as error:
            self._on_refused(error.code)
            answer = answer_refused(error)
        except ClientLeft:
            return
        await send_answer(send, answer, with_body=scope["method"] != "HEAD")

    async def _take(
        self, source_id: str, scope: Scope, receive: Receive, writer: PackingWriter
    ) -> Answer:
        self._gate.require_room()
        source = self._find_source(source_id)
        headers = scope["headers"]
        length = find_header(headers, b"content-length")
        body = await self._bodies.read(receive, length, source.source_id)
        received_at = format_time(now())
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        delivery = Delivery(named, body, received_at)
        preset = source.settings["preset"]
        if preset == "woocommerce" and is_trial(delivery):
            return _answer(preset, _NOTHING, writer, {})
        if not is_signed(delivery, source.settings):
            raise Unauthorized(
                "bad_signature",
                "the signature is not that of this body with the source's secret",
            )
        encoding = find_header(headers, b"content-encoding")
        delivery = delivery._replace(body=inflate(body, encoding, self._max_request_bytes))
        # A mapping may take some tenths of a second, in which others wait for this loop.
        if preset == "custom":
            judged = await asyncio.to_thread(self._judge, source, delivery)
        else:
            judged = self._judge(source, delivery)
        requests = write_delivery(
            source,
            judged,
            f"{self._prefix}_{next(self._numbers)}",
            received_at,
            partitions=writer.partitions,
        )
        return _answer(preset, judged, writer, await _append(writer, requests))

    def _judge(self, source: Source, delivery: Delivery) -> JudgedDelivery:
        return judge_delivery(source, delivery, self._door.judge, self._door.partitions)

    def _find_source(self, source_id: str) -> Source:
        source, is_disabled = self._directory.recall(source_id)
        if source is None:
            raise NotFound("source_not_found", f"there is no source {source_id[:100]!r}")
        if is_disabled:
            raise Forbidden("source_disabled", "this source is disabled")
        if source.settings.get("preset") not in HOOKS:
            raise Forbidden(
                "hook_not_configured",
                "this source takes no hooks; give it the settings preset and secret",
            )
        if not source.settings.get("secret"):
            raise Forbidden(
                "missing_secret", "without the setting secret this source accepts no hook"
            )
        return source


def write_delivery(
    source: Source, judged: JudgedDelivery, request_id: str, received_at: str, *, partitions: int
) -> list[RequestLog]:
    """Return what is to be logged of a delivery. Pure."""
    requests = [
        write_request(
            source,
            some,
            request_id=request_id,
            received_at=received_at,
            size=some.size,
            partitions=partitions,
            kind=kind,
        )
        for kind, some in judged.kinds.items()
        if some.accepted
    ]
    if judged.refused.rejected:
        rejected = write_rejected(judged.refused, "hooks")
        size = sum(map(len, rejected))
        requests.append(
            RequestLog(source.source_id, request_id, received_at, None, {}, size, rejected, 0)
        )
    return requests


async def _append(writer: PackingWriter, requests: Sequence[RequestLog]) -> Offsets:
    reached: dict[int, int] = {}
    for offsets in await asyncio.gather(*map(writer.append, requests)):
        for partition, offset in offsets.items():
            reached[partition] = max(offset, reached.get(partition, -1))
    return reached


def _answer(preset: str, judged: JudgedDelivery, writer: PackingWriter, offsets: Offsets) -> Answer:
    document = {
        "success": True,
        "accepted": judged.accepted,
        "rejected": [
            {"index": r.index, "messageId": r.message_id, "code": r.code, "message": r.message}
            for r in judged.refused.rejected
        ],
        "receipt": receipts.encode(writer.log.name, dict(offsets)),
    }
    # Youzan takes a delivery for done only when it reads this.
    return answer_json(document | {"code": 0, "msg": "success"} if preset == "youzan" else document)
