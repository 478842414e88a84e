"""A load at a fixed rate over kept-alive connections, and how long each answer took."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import uvloop


class _PacedConnection(asyncio.Protocol):
    """Sends at fixed times, whether the answer before was quick or not."""

    def __init__(self, request: bytes, first: float, period: float, until: float) -> None:
        self._request = request
        self._due = first
        self._period = period
        self._until = until
        self._sent = 0.0
        self._received = b""
        self.latencies: list[float] = []
        self.failed = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length: ")
        if not found or len(body) < int(rest.partition(b"\r\n")[0]):
            return
        self.failed += not head.startswith(b"HTTP/1.1 200")
        self._received = b""
        now = time.perf_counter()
        self.latencies.append(now - self._sent)
        self._due += self._period
        if now < self._until:
            self._wait()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def _wait(self) -> None:
        delay = self._due - time.perf_counter()
        asyncio.get_running_loop().call_later(max(0.0, delay), self._send)

    def _send(self) -> None:
        now = time.perf_counter()
        # Late because the answer before was late: that is part of how long this one takes.
        is_held_up = now - self._due > self._period
        self._sent = self._due if is_held_up else now
        self._transport.write(self._request)


def measure_latencies(
    port: int, request: bytes, *, per_second: float, seconds: float, connections: int
) -> list[float]:
    """Return the seconds that each answer took at ``per_second`` requests; raises on a failure."""

    async def load() -> list[float]:
        loop = asyncio.get_running_loop()
        start = time.perf_counter() + 0.1
        period = connections / per_second
        protocols = [
            (
                await loop.create_connection(
                    lambda at=start + number / per_second: _PacedConnection(  # type: ignore[misc]
                        request, at, period, start + seconds
                    ),
                    "127.0.0.1",
                    port,
                )
            )[1]
            for number in range(connections)
        ]
        async with asyncio.timeout(seconds + 30):
            await asyncio.wait([protocol.closed for protocol in protocols])
        if failed := sum(protocol.failed for protocol in protocols):
            raise RuntimeError(f"{failed} answers were not 200")
        return [latency for protocol in protocols for latency in protocol.latencies]

    return uvloop.run(load())
