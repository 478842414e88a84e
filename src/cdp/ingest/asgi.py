"""★ The door for SDKs: plain ASGI in front of the FastAPI application, which gets all the rest.

    route ─► key ─► body ─► open ─► judge ─► log ─► 200, and only then

A decorated route costs five times a bare one, and single events are the common case: so nothing
but this stands between them and the log.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from cdp import receipts
from cdp.errors import BadRequest, CdpError, TooLarge, Unauthorized
from cdp.ingest import sdk_settings
from cdp.ingest.answers import (
    Answer,
    answer_accepted,
    answer_bytes,
    answer_json,
    answer_refused,
    refuse_method,
)
from cdp.ingest.body import BodyReader, ClientLeft, TooSlow, inflate
from cdp.ingest.cors import cors_headers, find_header
from cdp.ingest.cors_app import FAULT, CorsApp, send_answer
from cdp.ingest.door import write_request
from cdp.ingest.lag_gate import LagGate
from cdp.ingest.open_body import require_room_for_shared
from cdp.ingest.packing import Offsets, PackingWriter, RequestLog
from cdp.ingest.parse import (
    Judged,
    Opened,
    Rejection,
    judge,
    open_batch,
    open_single,
    take_single,
)
from cdp.ingest.pixel import GIF, read_pixel
from cdp.ingest.rate_limit import Bucket, RateLimited, RateLimits
from cdp.ingest.records import RecordKind, judge_records, open_records, require_private_key
from cdp.ingest.sdk_routes import SDK_ROUTES, SdkRoute, find_route
from cdp.ingest.sdk_settings import ListTracked, track_everything
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.write_key import read_basic_key, read_query_key
from cdp.log.format import JoinedLines, Kind
from cdp.model import FindCheck, Source, check_nothing
from cdp.runtime.asgi_scope import BODY_IS_WHOLE
from cdp.runtime.clock import format_time
from cdp.settings import Settings
from cdp.trait_parts import LARGEST_TRAIT

STATUS = "cdp.status"
"""In the scope of a request with events: the status of its answer, for whoever counts."""

_Read = tuple[RequestLog, int, Sequence[Rejection]]
"""What is to be logged of a request, how many events were taken, and which were not."""


@dataclass(slots=True)
class IngestCounts:
    """What went through this door since the process started."""

    requests: int = 0
    accepted: int = 0
    rejected: int = 0
    refused: int = 0
    """Requests answered with a status of 400 or more."""


class IngestApp:
    """The outermost ASGI application: serves the SDKs, passes on what is not theirs.

    Adds CORS headers to all answers, those of ``fallback`` too. Without a ``writer`` (a process
    without the role) SDK routes are the fallback's as well.
    """

    def __init__(
        self,
        directory: SourceDirectory,
        writer: PackingWriter | None,
        settings: Settings,
        fallback: ASGIApp,
        record_kinds: Sequence[RecordKind] = (),
        find_check: FindCheck = check_nothing,
        list_tracked: ListTracked = track_everything,
        gate: LagGate | None = None,
        on_refused: Callable[[str], None] = lambda code: None,
    ) -> None:
        """``find_check`` and ``list_tracked`` bring in the tracking plan.

        ``gate`` says when the workers are too far behind; ``on_refused`` gets the code of every
        error that is answered.
        """
        self.counts = IngestCounts()
        self._directory = directory
        self._writer = writer
        self._max_request_bytes = settings.max_request_bytes
        self._max_batch_events = settings.max_batch_events
        self._max_event_bytes = settings.max_event_bytes
        self._public_url = settings.public_url
        self._fallback = fallback
        self._record_kinds = {f"/v1/{kind.list_name}": kind for kind in record_kinds}
        self._find_check = find_check
        self._list_tracked = list_tracked
        self._request_prefix = f"req_{os.urandom(5).hex()}"
        self._request_numbers = itertools.count()
        self._clock = _Clock()
        self._gate = LagGate(0) if gate is None else gate
        self._on_refused = on_refused
        self._limits = RateLimits(settings.public_events_per_second)
        self._bodies = BodyReader(
            settings.max_request_bytes, settings.body_seconds, settings.max_buffered_bytes
        )
        # All requests of one append to the log have the same receipt.
        self._answers = lru_cache(maxsize=512)(self._write_answer)
        self._others = CorsApp(self._serve)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = self._writer
        route = SDK_ROUTES.get(scope["path"]) if scope["type"] == "http" else None
        # The hot path goes straight to work; whatever is unusual takes the longer way round.
        if route is None or writer is None or not route.takes_events or scope["method"] != "POST":
            await self._others(scope, receive, send)
            return
        scope["cdp.route"] = route.template
        self.counts.requests += 1
        try:
            status, headers, body = await self._take_events(route, writer, scope, receive)
        except CdpError as error:
            status, headers, body = self._refuse(error)
        except ClientLeft:
            return
        except Exception:
            scope[STATUS] = FAULT.status
            await send_answer(send, _with_cors(answer_refused(FAULT), scope))
            # Whoever stands around this writes it down.
            raise
        scope[STATUS] = status
        headers += cors_headers(find_header(scope["headers"], b"origin"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what is not on the hot path: settings, pixels, odd spellings of paths."""
        path = scope["path"] if scope["type"] == "http" else ""
        found = find_route(path)
        kind = self._record_kinds.get(path)
        if kind is not None and kind.has_list and scope["method"] in ("GET", "HEAD"):
            kind = None
        writer = self._writer
        if (found is None and kind is None) or writer is None:
            await self._fallback(scope, receive, send)
            return
        scope["cdp.route"] = path if found is None else found[0].template
        self.counts.requests += 1
        try:
            if kind is not None:
                answer = await self._take_records(kind, writer, scope, receive)
            else:
                assert found is not None
                answer = await self._answer(*found, writer, scope, receive)
        except CdpError as error:
            answer = self._refuse(error)
        except ClientLeft:
            return
        await send_answer(send, answer, with_body=scope["method"] != "HEAD")

    async def _answer(
        self, route: SdkRoute, key: str, writer: PackingWriter, scope: Scope, receive: Receive
    ) -> Answer:
        if scope["method"] not in route.methods:
            return refuse_method(route.methods)
        if route.takes_events:
            return await self._take_events(route, writer, scope, receive)
        if route.kind == "metrics":
            return answer_json({"success": True})
        if route.kind == "pixel":
            return await self._take_pixel(route, writer, scope)
        return self._show_settings(route, key, scope)

    async def _take_events(
        self, route: SdkRoute, writer: PackingWriter, scope: Scope, receive: Receive
    ) -> Answer:
        authorization = length = encoding = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = value
            elif name == b"content-encoding":
                encoding = value
        self._gate.require_room()
        key = read_basic_key(authorization) if authorization is not None else None
        if key is None:
            key = read_query_key(scope["query_string"])
        # A stranger is turned away before the body is read, and whoever is in debt.
        source = bucket = None
        owner = ""
        if key is not None:
            source, bucket = self._admit(key)
            owner = source.source_id
        body = await self._bodies.read(receive, length, owner, is_whole=BODY_IS_WHOLE in scope)
        request, accepted, rejected = self._read(route, source, bucket, body, encoding, writer)
        # A busy server waits for the log with hundreds of bodies that nobody needs any more.
        del body
        return self._accept(accepted, rejected, await writer.append(request))

    def _read(
        self,
        route: SdkRoute,
        source: Source | None,
        bucket: Bucket | None,
        body: bytes,
        encoding: bytes | None,
        writer: PackingWriter,
    ) -> _Read:
        """Return what is to be logged of a body, and what is to be answered."""
        if source is not None and route.type is not None and encoding is None:
            longest = source.settings.get("max_event_bytes", self._max_event_bytes)
            taken = take_single(body, route.type, writer.partitions, longest)
            if taken is not None and self._find_check(source) is None:
                if bucket is not None:
                    bucket.charge(1)
                partition, line = taken
                request = RequestLog(
                    source.source_id,
                    f"{self._request_prefix}_{next(self._request_numbers)}",
                    self._clock.read(),
                    None,
                    {partition: JoinedLines(1, line)},
                    len(line),
                )
                return request, 1, ()
        body = inflate(body, encoding, self._max_request_bytes)
        if route.kind == "batch":
            opened = open_batch(body)
            require_room_for_shared(opened, self._max_request_bytes)
        else:
            opened = open_single(body, wants_key=source is None)
        if source is None:
            source, bucket = self._admit(opened.write_key)
        if len(opened.items) > self._max_batch_events:
            raise TooLarge(
                "too_many_events",
                f"a request may have {self._max_batch_events} events; send smaller batches",
            )
        if bucket is not None:
            bucket.charge(len(opened.items))
        request, judged = self._judge(route, source, opened, len(body), writer)
        return request, judged.accepted, judged.rejected

    def _admit(self, key: str | None) -> tuple[Source, Bucket | None]:
        """Return whose ``key`` it is and what its requests are charged to.

        Raises ``Unauthorized``, and ``RateLimited`` while the key is in debt.
        """
        source = self._find_source(key)
        assert key is not None
        return source, self._limits.admit(key, source, time.monotonic())

    def _refuse(self, error: CdpError) -> Answer:
        self.counts.refused += 1
        self._on_refused(error.code)
        if isinstance(error, RateLimited):
            return answer_refused(error, *error.headers())
        if isinstance(error, TooSlow):
            # Or whoever sends a byte a second keeps the connection all the same.
            return answer_refused(error, (b"connection", b"close"))
        return answer_refused(error)

    async def _take_records(
        self, kind: RecordKind, writer: PackingWriter, scope: Scope, receive: Receive
    ) -> Answer:
        if scope["method"] != "POST":
            return refuse_method({"POST"})
        headers = scope["headers"]
        key = read_basic_key(find_header(headers, b"authorization") or b"")
        key = key or read_query_key(scope["query_string"])
        self._gate.require_room()
        source = bucket = None
        if key is not None:
            source = self._find_source(key)
            require_private_key(source)
            bucket = self._limits.admit(key, source, time.monotonic())
        limit = self._max_request_bytes
        length = find_header(headers, b"content-length")
        body = await self._bodies.read(receive, length, "" if source is None else source.source_id)
        body = inflate(body, find_header(headers, b"content-encoding"), limit)
        content_type = (find_header(headers, b"content-type") or b"").decode("latin-1")
        opened = open_records(body, kind, content_type)
        if source is None:
            source = self._find_source(opened.write_key)
            require_private_key(source)
            assert opened.write_key is not None
            bucket = self._limits.admit(opened.write_key, source, time.monotonic())
        if bucket is not None:
            bucket.charge(len(opened.items))
        judged, size = judge_records(opened, kind, writer.partitions)
        request = self._pack(source, judged, size, None, writer.partitions, kind.list_name)
        return self._accept(judged.accepted, judged.rejected, await writer.append(request))

    async def _take_pixel(self, route: SdkRoute, writer: PackingWriter, scope: Scope) -> Answer:
        self._gate.require_room()
        query = scope["query_string"]
        try:
            opened = open_single(read_pixel(query), wants_key=True)
        except ValueError as error:
            raise BadRequest("invalid_query", "the query has too many parameters") from error
        source, bucket = self._admit(read_query_key(query) or opened.write_key)
        if bucket is not None:
            bucket.charge(1)
        request, judged = self._judge(route, source, opened, len(query), writer)
        self._accept(judged.accepted, judged.rejected, await writer.append(request))
        return answer_bytes(b"image/gif", GIF)

    def _judge(
        self, route: SdkRoute, source: Source, opened: Opened, size: int, writer: PackingWriter
    ) -> tuple[RequestLog, Judged]:
        """Judge a body of ``size`` bytes; return what is to be logged of it."""
        judged = judge(
            opened,
            route_type=route.type,
            partitions=writer.partitions,
            max_event_bytes=source.settings.get("max_event_bytes", self._max_event_bytes),
            max_trait_bytes=source.settings.get("max_trait_bytes", LARGEST_TRAIT),
            check=self._find_check(source),
        )
        if opened.shared:
            size = judged.size
        return self._pack(source, judged, size, opened.sent_at, writer.partitions), judged

    def _pack(
        self,
        source: Source,
        judged: Judged,
        size: int,
        sent_at: str | None,
        partitions: int,
        kind: Kind = "events",
    ) -> RequestLog:
        """Return what is to be logged of a request whose body has ``size`` bytes."""
        return write_request(
            source,
            judged,
            request_id=f"{self._request_prefix}_{next(self._request_numbers)}",
            received_at=self._clock.read(),
            size=size,
            partitions=partitions,
            sent_at=sent_at,
            kind=kind,
        )

    def _accept(self, accepted: int, rejected: Sequence[Rejection], offsets: Offsets) -> Answer:
        self.counts.accepted += accepted
        places = tuple(offsets.items())
        if rejected:
            self.counts.rejected += len(rejected)
            return answer_accepted(accepted, rejected, self._write_receipt(places))
        status, headers, body = self._answers(accepted, places)
        # Each answer gets headers of its own: those of CORS come behind.
        return Answer(status, headers.copy(), body)

    def _write_answer(self, accepted: int, places: tuple[tuple[int, int], ...]) -> Answer:
        return answer_accepted(accepted, (), self._write_receipt(places))

    def _write_receipt(self, places: tuple[tuple[int, int], ...]) -> bytes:
        assert self._writer is not None
        return receipts.encode(self._writer.log.name, dict(places)).encode()

    def _find_source(self, key: str | None) -> Source:
        if not key:
            raise Unauthorized(
                "missing_write_key",
                "send a write key: as Basic user name, as `writeKey` in the body or in the query",
            )
        source = self._directory.by_key(key)
        if source is None:
            raise Unauthorized("unknown_write_key", "this write key is unknown or was removed")
        return source

    def _show_settings(self, route: SdkRoute, key: str, scope: Scope) -> Answer:
        """Answer what browser SDKs load first; the probe for ad blockers (HEAD) needs no key."""
        headers = scope["headers"]
        cached = (b"cache-control", sdk_settings.CACHE_CONTROL)
        if route.kind == "project_settings":
            tracked = self._list_tracked(self._find_source(key))
            address = sdk_settings.find_address(scope["scheme"], headers, self._public_url)
            return answer_json(sdk_settings.project_settings(key, *address, tracked), cached)
        basic = read_basic_key(find_header(headers, b"authorization") or b"")
        asked = basic or read_query_key(scope["query_string"])
        if asked is None and scope["method"] == "HEAD":
            return answer_json({})
        source = self._find_source(asked)
        assert asked is not None
        return answer_json(sdk_settings.source_config(asked, source), cached)


class _Clock:
    """The time of receipt as text: many requests share a millisecond."""

    def __init__(self) -> None:
        self._millisecond = -1
        self._text = ""

    def read(self) -> str:
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._text = format_time(datetime.fromtimestamp(millisecond / 1000, UTC))
        return self._text


def _with_cors(answer: Answer, scope: Scope) -> Answer:
    origin = find_header(scope["headers"], b"origin")
    return answer._replace(headers=answer.headers + cors_headers(origin))
