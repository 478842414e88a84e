"""A proxy on 127.0.0.1 that hands requests on, writes all of them down, and does harm as scripted.

It speaks HTTP/1.1 with kept-alive connections, since browsers repeat a request by themselves when
such a connection is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

import h11

from tests.support.faults import CutAfter, CutBefore, Fault, Late, Refuse, Seen, list_ids

_CHUNK = 1024
_DROPPED_HEADERS = frozenset({b"connection", b"transfer-encoding", b"content-length"})


class FaultProxy:
    """Stands before ``upstream``. Every message meets each fault of the script once, in order.

    A request meets the first fault that one of its messages has not met; faults go by message, as
    SDKs put their batches together anew when they send again. What carries no messages (settings,
    preflights, metrics) passes unharmed. With a ``pace``, bodies and answers trickle at so many
    bytes a second.
    """

    def __init__(
        self, upstream: str, faults: Sequence[Fault] = (), pace: int | None = None
    ) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        self._upstream = (parts.hostname, parts.port or 80)
        self._faults = list(faults)
        self._pace = pace
        self._met: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: list[Seen] = []
        self.url = ""

    @property
    def posts(self) -> list[Seen]:
        """The requests that carried events."""
        return [request for request in self.requests if request.message_ids]

    @property
    def forwarded_ids(self) -> list[str]:
        """Every message that the server answered for, once for each time."""
        return list_ids(request for request in self.posts if request.forwarded)

    @property
    def acknowledged_ids(self) -> set[str]:
        """Messages of which a client was told that they are safe."""
        return set(list_ids(r for r in self.posts if r.status is not None and r.status < 300))

    async def serve(self, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Listen on a free port; ``url`` says where."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
                await self._serve_connection(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            seen = await _read_request(connection, reader, self._pace)
            if seen is None:
                return
            self.requests.append(seen)
            seen.fault = fault = self._choose_fault(seen)
            if isinstance(fault, CutBefore):
                writer.transport.abort()
                return
            if isinstance(fault, Refuse):
                status, headers, answer = _refuse(seen, fault)
            else:
                status, headers, answer = await self._forward(seen)
                seen.forwarded = True
            if isinstance(fault, CutAfter):
                writer.transport.abort()
                return
            if isinstance(fault, Late):
                await asyncio.sleep(fault.seconds)
            seen.answer_headers = {k.decode(): v.decode() for k, v in headers}
            seen.answer = answer
            await _send_answer(connection, writer, seen, status, headers, self._pace)
            seen.status = status
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()

    def _choose_fault(self, seen: Seen) -> Fault | None:
        ids = seen.message_ids
        if not ids:
            return None
        met = min(self._met[one] for one in ids)
        self._met.update(set(ids))
        return self._faults[met] if met < len(self._faults) else None

    async def _forward(self, seen: Seen) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Hand a request on as it came, over a connection of its own."""
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            connection = h11.Connection(h11.CLIENT)
            headers = [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in seen.headers
                if name.encode() not in _DROPPED_HEADERS
            ]
            headers += [(b"connection", b"close"), (b"content-length", b"%d" % len(seen.body))]
            if self.url.startswith("https:"):
                headers.append((b"x-forwarded-proto", b"https"))
            request = h11.Request(method=seen.method, target=seen.target, headers=headers)
            writer.write(connection.send(request) or b"")
            if seen.body:
                writer.write(connection.send(h11.Data(data=seen.body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            return await _read_response(connection, reader)
        finally:
            writer.close()

    async def close(self) -> None:
        """Drop what is still connected."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


def _refuse(seen: Seen, fault: Refuse) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [(b"content-type", b"application/json"), (b"connection", b"keep-alive")]
    # As the server would: without these a browser takes it for a network failure.
    headers.append((b"access-control-allow-origin", (seen.header("origin") or "*").encode()))
    headers.append((b"access-control-allow-credentials", b"true"))
    headers.append((b"access-control-expose-headers", b"Retry-After, X-RateLimit-Reset"))
    if fault.retry_after is not None:
        seconds = b"%d" % fault.retry_after
        headers += [(b"retry-after", seconds), (b"x-ratelimit-reset", seconds)]
    return fault.status, headers, fault.body


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader, pace: int | None
) -> Seen | None:
    """Read one whole request; ``None`` when the client has left instead."""
    seen: Seen | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK if pace else 65536)
            if pace and seen is not None:
                await asyncio.sleep(len(data) / pace)
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            seen = Seen(
                event.method.decode(),
                event.target.decode("latin-1"),
                [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers],
                b"",
                time.monotonic(),
            )
        elif isinstance(event, h11.Data):
            assert seen is not None
            seen.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return seen
        else:
            return None


async def _read_response(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    status, headers, body = 0, [], b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = [(k, v) for k, v in event.headers if k not in _DROPPED_HEADERS]
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, headers, body
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("the server hung up")


async def _send_answer(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    seen: Seen,
    status: int,
    headers: list[tuple[bytes, bytes]],
    pace: int | None,
) -> None:
    body = b"" if seen.method == "HEAD" or status == 204 else seen.answer
    if status != 204:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    raw = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    if body:
        raw += connection.send(h11.Data(data=body)) or b""
    raw += connection.send(h11.EndOfMessage()) or b""
    step = _CHUNK if pace else len(raw)
    for start in range(0, len(raw), step):
        writer.write(raw[start : start + step])
        await writer.drain()
        if pace:
            await asyncio.sleep(step / pace)


class ProxyLoop:
    """A thread in which any number of proxies live; leaving it ends them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._open: list[tuple[FaultProxy, asyncio.Server]] = []

    def open(
        self,
        upstream: str,
        faults: Sequence[Fault] = (),
        *,
        pace: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> FaultProxy:
        """Open one more proxy before ``upstream``."""
        proxy = FaultProxy(upstream, faults, pace)
        server = asyncio.run_coroutine_threadsafe(proxy.serve(tls), self._loop).result(10)
        self._open.append((proxy, server))
        return proxy

    def __enter__(self) -> ProxyLoop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        async def close_all() -> None:
            for proxy, server in self._open:
                server.close()
                await proxy.close()

        asyncio.run_coroutine_threadsafe(close_all(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
