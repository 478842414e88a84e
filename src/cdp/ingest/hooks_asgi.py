"""``POST /v1/hooks/{source_id}``: what shops send by themselves, in plain ASGI.

    source ─► body ─► signature ─► map and judge ─► log ─► 200, and only then

Nothing asks Postgres. Whatever a shop that signs sends is answered 200 once it is on disk, be it
understood or kept as refused: shops give up hooks that are refused again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import Receive, Scope

from cdp import receipts
from cdp.errors import Forbidden, NotFound, Unauthorized
from cdp.ingest.answers import Answer, answer_json
from cdp.ingest.body import BodyReader, inflate
from cdp.ingest.cors import find_header
from cdp.ingest.door import Door, write_rejected, write_request
from cdp.ingest.hook_lines import JudgedDelivery, judge_delivery
from cdp.ingest.hooks.delivery import Delivery
from cdp.ingest.hooks.presets import HOOKS
from cdp.ingest.hooks.signature import is_signed
from cdp.ingest.hooks.woocommerce import is_trial
from cdp.ingest.packing import Offsets, PackingWriter, RequestLog
from cdp.ingest.parse import Judged
from cdp.ingest.source_directory import SourceDirectory
from cdp.model import Source

PREFIX = "/v1/hooks/"
TEMPLATE = "/v1/hooks/{source_id}"

_NOTHING = JudgedDelivery({}, Judged())


class HookTaker:
    """Takes deliveries for the sources that are set up for them. For one event loop."""

    def __init__(
        self,
        directory: SourceDirectory,
        door: Door,
        bodies: BodyReader,
        max_request_bytes: int,
    ) -> None:
        self._directory = directory
        self._door = door
        self._bodies = bodies
        self._max_request_bytes = max_request_bytes

    async def take(
        self,
        scope: Scope,
        receive: Receive,
        writer: PackingWriter,
        request_id: str,
        received_at: str,
    ) -> tuple[Answer, JudgedDelivery | None]:
        """Answer a delivery, and say what came of it; ``None`` for a shop's trial.

        Raises ``NotFound``, ``Forbidden`` before the body is read, ``Unauthorized`` for a wrong
        signature, and ``Unavailable`` when the log does not take it.
        """
        source = self._find_source(scope["path"].removeprefix(PREFIX))
        headers = scope["headers"]
        length = find_header(headers, b"content-length")
        raw = await self._bodies.read(receive, length, source.source_id)
        delivery = Delivery(
            {name.decode("latin-1"): value.decode("latin-1") for name, value in headers},
            raw,
            received_at,
        )
        preset = source.settings["preset"]
        if preset == "woocommerce" and is_trial(delivery):
            return _answer(preset, _NOTHING, writer, {}), None
        if not is_signed(delivery, source.settings):
            raise Unauthorized(
                "bad_signature",
                "the signature is not that of this body with the source's secret",
            )
        encoding = find_header(headers, b"content-encoding")
        delivery = delivery._replace(body=inflate(raw, encoding, self._max_request_bytes))
        # A mapping may take some tenths of a second, in which others wait for this loop.
        if preset == "custom":
            judged = await asyncio.to_thread(self._judge, source, delivery)
        else:
            judged = self._judge(source, delivery)
        requests = write_delivery(
            source, judged, request_id, received_at, partitions=writer.partitions
        )
        offsets = await _append(writer, requests)
        return _answer(preset, judged, writer, offsets), judged

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
