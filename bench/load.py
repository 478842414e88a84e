"""A closed-loop load over kept-alive connections, light enough to outrun any Python server."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from typing import cast

import uvloop


def make_request(path: str, body: bytes, write_key: str) -> bytes:
    """Return the bytes of one POST, as an SDK with Basic authorization sends it."""
    authorization = b64encode(f"{write_key}:".encode()).decode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """Sends the request, waits for the answer, and again."""

    def __init__(self, request: bytes, until: float, tally: list[int]) -> None:
        self._request = request
        self._until = until
        self._tally = tally
        self._received = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        head, found, body = received.partition(b"\r\n\r\n")
        if found:
            _, _, rest = head.lower().partition(b"content-length: ")
            found = len(body) >= int(rest.partition(b"\r\n")[0])  # type: ignore[assignment]
        if not found:
            self._received = received
            return
        self._received = b""
        self._tally[0 if received.startswith(b"HTTP/1.1 200") else 1] += 1
        if time.perf_counter() < self._until:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


def run_load(port: int, request: bytes, *, connections: int, seconds: float) -> float:
    """Return answers per second; raises when any of them was not 200."""

    async def load() -> float:
        loop = asyncio.get_running_loop()
        tally = [0, 0]
        start = time.perf_counter()
        protocols = [
            (
                await loop.create_connection(
                    lambda: _Connection(request, start + seconds, tally), "127.0.0.1", port
                )
            )[1]
            for _ in range(connections)
        ]
        async with asyncio.timeout(seconds + 30):
            await asyncio.wait([protocol.closed for protocol in protocols])
        if tally[1]:
            raise RuntimeError(f"{tally[1]} answers were not 200")
        return tally[0] / (time.perf_counter() - start)

    return uvloop.run(load())
