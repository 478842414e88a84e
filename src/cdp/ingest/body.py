"""Read a request's body: whole, bounded in bytes and time, and inflated when it is compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cdp.errors import BadRequest, TooLarge, Unavailable
from cdp.ingest.fair_share import FairShare

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_GZIP = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
_TICK_SECONDS = 1.0
_SLOW_RETRY_SECONDS = 5


class ClientLeft(Exception):
    """The client hung up before its request was complete; nobody waits for an answer."""


class TooSlow(Unavailable):
    """The body took too long. 503, because several SDKs drop what is answered with 408."""


class BodyReader:
    """Reads bodies within limits that hold for each, and for all together. For one event loop."""

    def __init__(self, max_bytes: int, max_seconds: float, max_buffered_bytes: int) -> None:
        """``max_bytes`` and ``max_seconds`` are of one body, until its last byte;

        ``max_buffered_bytes`` of all bodies that have begun to arrive.
        """
        self._max_bytes = max_bytes
        self._max_ticks = max(1, round(max_seconds / _TICK_SECONDS))
        self._shares = FairShare(max_buffered_bytes)
        self._tick = 0
        # A timer per body would cost more than reading most of them.
        self._reading: dict[asyncio.Task[Any], int] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(
        self,
        receive: Receive,
        content_length: bytes | None,
        owner: str,
        *,
        is_whole: bool = False,
    ) -> bytes:
        """Return the body as sent; ``owner`` is the source that it counts for.

        ``is_whole`` says that all of it is here already, so that nobody need watch the clock.
        Raises ``TooLarge``, ``TooSlow``, ``Unavailable`` when too many bytes are arriving at once,
        or ``ClientLeft``.
        """
        limit = self._max_bytes
        if content_length is not None and content_length.isdigit() and int(content_length) > limit:
            raise _too_large(limit)
        if is_whole:
            return await self._read(receive, owner)
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = self._tick
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._look)
        try:
            return await self._read(receive, owner)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise TooSlow(
                "body_too_slow",
                "the body did not arrive in time; send it again, in smaller batches",
                retry_after=_SLOW_RETRY_SECONDS,
            ) from None
        finally:
            del self._reading[task]
            self._late.discard(task)

    async def _read(self, receive: Receive, owner: str) -> bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        first: bytes = message.get("body", b"")
        if message.get("more_body", False):
            return await self._read_on(first, receive, owner)
        if len(first) > self._max_bytes:
            raise _too_large(self._max_bytes)
        return first

    async def _read_on(self, first: bytes, receive: Receive, owner: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        chunk = first
        more = True
        try:
            while True:
                if size + len(chunk) > self._max_bytes:
                    raise _too_large(self._max_bytes)
                if chunk and not self._shares.take(owner, len(chunk)):
                    raise Unavailable(
                        "buffer_full", "too many bytes are arriving at once", retry_after=5
                    )
                size += len(chunk)
                chunks.append(chunk)
                if not more:
                    return b"".join(chunks)
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                chunk = message.get("body", b"")
                more = message.get("more_body", False)
        finally:
            if size:
                self._shares.give_back(owner, size)

    def _look(self) -> None:
        """Cut off what has been arriving for too long; come again while anything arrives."""
        self._timer = None
        self._tick += 1
        for task, began in self._reading.items():
            if self._tick - began > self._max_ticks and task not in self._late:
                self._late.add(task)
                task.cancel()
        if self._reading:
            self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._look)


def inflate(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    """Return ``body`` without its ``Content-Encoding``. Pure.

    Gzip is recognised by its first bytes too: no JSON begins with them. Raises ``BadRequest`` for
    corrupt data or another encoding, ``TooLarge`` above ``limit`` inflated bytes.
    """
    name = (encoding or b"identity").strip().lower()
    if name in (b"gzip", b"x-gzip") or (name == b"identity" and body[:2] == _GZIP_MAGIC):
        return _gunzip(body, limit)
    if name in (b"identity", b""):
        return body
    raise BadRequest(
        "unsupported_encoding",
        "send the body as it is, or with `Content-Encoding: gzip`",
        details={"content_encoding": name.decode("latin-1")[:100]},
    )


def _gunzip(body: bytes, limit: int) -> bytes:
    inflated: list[bytes] = []
    size = 0
    while body:
        stream = zlib.decompressobj(_GZIP)
        try:
            chunk = stream.decompress(body, limit + 1 - size)
        except zlib.error as error:
            raise BadRequest("corrupt_gzip", f"the body cannot be unpacked: {error}") from error
        size += len(chunk)
        if size > limit or stream.unconsumed_tail:
            raise _too_large(limit)
        if not stream.eof:
            raise BadRequest("corrupt_gzip", "the compressed body ends too early")
        inflated.append(chunk)
        # Several gzip members in a row are one file.
        body = stream.unused_data
        if body and body[:2] != _GZIP_MAGIC:
            raise BadRequest("corrupt_gzip", "something else follows the compressed body")
    return inflated[0] if len(inflated) == 1 else b"".join(inflated)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("body_too_large", f"a request may have {limit} bytes; send smaller batches")
