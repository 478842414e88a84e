"""★ The door for SDKs: plain ASGI in front of the FastAPI application, which gets all the rest.

    route ─► key ─► body ─► open ─► judge ─► log ─► 200, and only then

A decorated route costs five times a bare one, and single events are the common case: so nothing
but this stands between them and the log.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from cdp import receipts
from cdp.errors import BadRequest, CdpError, Unauthorized
from cdp.ingest import sdk_settings
from cdp.ingest.answers import (
    Answer,
    answer_accepted,
    answer_bytes,
    answer_json,
    answer_refused,
)
from cdp.ingest.body import ClientLeft, inflate, read_body
from cdp.ingest.cors import find_header
from cdp.ingest.cors_app import CorsApp, send_answer
from cdp.ingest.lenient import encode
from cdp.ingest.packing import PackingWriter, RequestLog
from cdp.ingest.parse import Judged, Opened, Rejection, judge, open_batch, open_single
from cdp.ingest.pixel import GIF, read_pixel
from cdp.ingest.sdk_routes import SdkRoute, find_route
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.write_key import read_basic_key, read_query_key
from cdp.log.format import RejectedLine
from cdp.model import Source
from cdp.runtime.clock import format_time, now
from cdp.settings import Settings

_LONGEST_RAW = 600_000
"""Bytes of a refused event that are kept: as base64 they still fit into one record."""


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
    ) -> None:
        self.counts = IngestCounts()
        self._directory = directory
        self._writer = writer
        self._max_request_bytes = settings.max_request_bytes
        self._max_event_bytes = settings.max_event_bytes
        self._public_url = settings.public_url
        self._fallback = fallback
        self._request_prefix = f"req_{os.urandom(5).hex()}"
        self._request_numbers = itertools.count()
        self._outermost = CorsApp(self._serve)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._outermost(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = find_route(scope["path"]) if scope["type"] == "http" else None
        if found is None or self._writer is None:
            await self._fallback(scope, receive, send)
            return
        route, key = found
        scope["cdp.route"] = route.template
        self.counts.requests += 1
        try:
            answer = await self._answer(route, key, self._writer, scope, receive)
        except CdpError as error:
            self.counts.refused += 1
            answer = answer_refused(error)
        except ClientLeft:
            return
        await send_answer(send, answer, with_body=scope["method"] != "HEAD")

    async def _answer(
        self, route: SdkRoute, key: str, writer: PackingWriter, scope: Scope, receive: Receive
    ) -> Answer:
        if scope["method"] not in route.methods:
            allowed = ", ".join(sorted(route.methods))
            error = _MethodNotAllowed("method_not_allowed", f"this path takes {allowed}")
            return answer_refused(error, (b"allow", allowed.encode()))
        if route.kind in ("single", "batch"):
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
        key = read_basic_key(authorization) if authorization is not None else None
        if key is None:
            key = read_query_key(scope["query_string"])
        # A stranger is turned away before the body is read.
        source = self._find_source(key) if key is not None else None
        body = await read_body(receive, length, self._max_request_bytes)
        body = inflate(body, encoding, self._max_request_bytes)
        if route.kind == "batch":
            opened = open_batch(body)
        else:
            opened = open_single(body, wants_key=source is None)
        if source is None:
            source = self._find_source(opened.write_key)
        return await self._log_events(route, source, opened, writer)

    async def _take_pixel(self, route: SdkRoute, writer: PackingWriter, scope: Scope) -> Answer:
        query = scope["query_string"]
        try:
            opened = open_single(read_pixel(query), wants_key=True)
        except ValueError as error:
            raise BadRequest("invalid_query", "the query has too many parameters") from error
        source = self._find_source(read_query_key(query) or opened.write_key)
        await self._log_events(route, source, opened, writer)
        return answer_bytes(b"image/gif", GIF)

    async def _log_events(
        self, route: SdkRoute, source: Source, opened: Opened, writer: PackingWriter
    ) -> Answer:
        judged = judge(
            opened,
            route_type=route.type,
            partitions=writer.partitions,
            max_event_bytes=source.settings.get("max_event_bytes", self._max_event_bytes),
        )
        offsets = await writer.append(self._make_request(source, opened, judged, writer))
        self.counts.accepted += judged.accepted
        self.counts.rejected += len(judged.rejected)
        receipt = receipts.encode(writer.log.name, offsets)
        return answer_accepted(judged.accepted, judged.rejected, receipt)

    def _make_request(
        self, source: Source, opened: Opened, judged: Judged, writer: PackingWriter
    ) -> RequestLog:
        number = next(self._request_numbers)
        return RequestLog(
            source.source_id,
            f"{self._request_prefix}_{number}",
            format_time(now()),
            opened.sent_at,
            judged.lines,
            [_write_rejected(one) for one in judged.rejected],
            number % writer.partitions,
        )

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
            self._find_source(key)
            address = sdk_settings.find_address(scope["scheme"], headers, self._public_url)
            return answer_json(sdk_settings.project_settings(key, *address), cached)
        basic = read_basic_key(find_header(headers, b"authorization") or b"")
        asked = basic or read_query_key(scope["query_string"])
        if asked is None and scope["method"] == "HEAD":
            return answer_json({})
        source = self._find_source(asked)
        assert asked is not None
        return answer_json(sdk_settings.source_config(asked, source), cached)


class _MethodNotAllowed(CdpError):
    status = 405


def _write_rejected(one: Rejection) -> bytes:
    raw = one.raw[:_LONGEST_RAW]
    return encode(RejectedLine(one.code, one.message, raw, one.message_id, one.index))
