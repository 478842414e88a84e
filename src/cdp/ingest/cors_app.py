"""The outermost layer of the program: CORS on every answer, and an answer for every failure."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdp.errors import CdpError
from cdp.ingest.answers import RETRY_STATUSES, Answer, answer_refused, retry_headers
from cdp.ingest.cors import cors_headers, find_header, preflight_headers

FAULT = CdpError("internal_error", "this is a fault of the server; its log says more")


class CorsApp:
    """Wraps an ASGI application: adds CORS headers, answers preflights before anything else.

    A browser takes an answer without these headers for a network failure, and its SDK sends the
    event again; so errors carry them too, and an exception becomes a 500 here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            headers = preflight_headers(scope["headers"])
            await send_answer(send, Answer(204, headers, b""))
            return
        origin = find_header(scope["headers"], b"origin")
        started = False

        async def send_with_cors(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(message, origin)
            await send(message)

        try:
            await self._app(scope, receive, send_with_cors)
        except Exception:
            if not started:
                await send_answer(send_with_cors, answer_refused(FAULT))
            # Whoever stands around this writes it down.
            raise


def _add_headers(message: Message, origin: bytes | None) -> None:
    headers = list(message.get("headers", ()))
    headers += cors_headers(origin)
    if message["status"] in RETRY_STATUSES:
        seconds = find_header(headers, b"retry-after")
        if find_header(headers, b"x-ratelimit-reset") is None:
            headers += retry_headers(seconds or b"5")[1 if seconds else 0 :]
    message["headers"] = headers


async def send_answer(send: Send, answer: Answer, *, with_body: bool = True) -> None:
    """Send a whole answer; without its body for a HEAD request."""
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if with_body else b""})
