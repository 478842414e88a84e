"""uvicorn's HTTP/1.1 protocol with what it has no limits for: headers, connections, leftovers.

uvicorn bounds neither the headers of a request nor the time that they take, and reads what follows
an answer for ever. The requests themselves are not slowed down: one look per packet.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cdp.runtime.asgi_scope import BODY_IS_WHOLE

_ANSWER = (
    b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\naccess-control-allow-origin: *\r\n"
    b"%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
)
_RETRY = (
    b"access-control-expose-headers: Retry-After, X-RateLimit-Reset\r\n"
    b"retry-after: 5\r\nx-ratelimit-reset: 5\r\n"
)


class BoundedHttp(HttpToolsProtocol):
    """One connection. The limits are those of the subclass that ``bound_http`` makes."""

    max_connections = 0
    max_header_bytes = 0
    header_seconds = 0.0
    leftover_seconds = 0.0

    _header_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse a connection too many; give the others a time to say what they want."""
        super().connection_made(cast(asyncio.Transport, transport))
        if len(self.connections) > self.max_connections:
            body = b'{"code":"too_many_connections","message":"come again later","details":{}}'
            self._end(503, b"Service Unavailable", body, _RETRY)
        else:
            self._deadline = self.loop.call_later(self.header_seconds, self._hang_up)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; then see whether a request has begun, or only its headers."""
        HttpToolsProtocol.data_received(self, data)
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            if not cycle.more_body:
                # The application runs only after this; most requests are one packet.
                self.scope[BODY_IS_WHOLE] = True  # type: ignore[literal-required]
            if self._deadline is not None and not cycle.response_complete:
                self._deadline.cancel()
                self._deadline = None
                self._header_bytes = 0
            elif self._deadline is None and cycle.response_complete:
                # Answered before it was read: the rest of the body is of no use to anybody.
                self._deadline = self.loop.call_later(self.leftover_seconds, self._hang_up)
            return
        self._header_bytes += len(data)
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.header_seconds, self._hang_up)
        if self._header_bytes > self.max_header_bytes:
            body = b'{"code":"headers_too_large","message":"send smaller headers","details":{}}'
            self._end(431, b"Request Header Fields Too Large", body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the clock."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().connection_lost(exc)

    def _end(self, status: int, phrase: bytes, body: bytes, headers: bytes = b"") -> None:
        if not self.transport.is_closing():
            answer = _ANSWER % (status, phrase, headers, len(body), body)
            self.transport.write(answer)
            self.transport.close()

    def _hang_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


def bound_http(
    *,
    max_connections: int,
    max_header_bytes: int,
    header_seconds: float,
    leftover_seconds: float,
) -> type[BoundedHttp]:
    """Return the protocol class with these limits, for ``uvicorn.Config(http=…)``.

    ``header_seconds`` is the time for a request's headers, from its first byte or the connection's
    beginning; ``leftover_seconds`` the time in which a body that was answered early must end.
    """
    limits = {
        "max_connections": max_connections,
        "max_header_bytes": max_header_bytes,
        "header_seconds": header_seconds,
        "leftover_seconds": leftover_seconds,
    }
    return type("BoundedHttp", (BoundedHttp,), limits)
