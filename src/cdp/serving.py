"""The outermost layers: services start and stop, requests are counted, faults are caught."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdp.access.guard import ROUTE
from cdp.errors import SetupError
from cdp.ingest.asgi import STATUS
from cdp.ingest.sdk_routes import EVENT_PATHS
from cdp.profiles.profile_names import keep_encoded_slashes
from cdp.runtime.clock import now
from cdp.runtime.error_answers import answer_error
from cdp.runtime.logs import get_logger
from cdp.runtime.recent_errors import RecentErrors
from cdp.services import Services

_log = get_logger(__name__)
_OTHER = "other"
# Nothing stored has a NUL in it: on the wire it became this.
_NUL, _ENCODED_NUL = "\ufffd", b"%EF%BF%BD"
_FORM = b"application/x-www-form-urlencoded"


class CatchFaults:
    """Around the API: a fault is logged and remembered once, and answered when nothing was sent."""

    def __init__(self, app: ASGIApp, errors: RecentErrors) -> None:
        self._app = app
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def watch(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            route = scope.get(ROUTE, _OTHER)
            _log.error("unexpected_error", route=route, exc_info=error)
            self._errors.add(now(), route, error)
            if not is_answered:
                await answer_error(error)(scope, receive, send)


class ReadFormsAsJson:
    """Around the API: a body sent as a form is JSON, as ``curl -d`` sends it without being told.

    No route takes such forms, and tokens travel in a header that no form can send.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [_say_json(header) for header in scope["headers"]]
        await self._app(scope, receive, send)


class AnswerHeads:
    """Around the API: a HEAD request is answered as its GET, without the body.

    Load balancers and monitors ask so; routes are declared for GET alone. An answer that would go
    on for ever ends with its headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        is_ended = False

        async def send_without_body(message: Message) -> None:
            nonlocal is_ended
            if message["type"] == "http.response.body":
                if is_ended:
                    return
                is_ended = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            # Whoever counts requests stands outside and looks afterwards.
            scope["method"] = "HEAD"


def _say_json(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    is_form = header[0] == b"content-type" and header[1].startswith(_FORM)
    return (b"content-type", b"application/json") if is_form else header


class Serving:
    """The outermost ASGI application: starts and stops the services, counts every request."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self.services = services
        # A look at every message of the busiest routes would cost as much as reading the key.
        self._told = EVENT_PATHS if "ingest" in services.roles else frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw_path = scope.get("raw_path") or b""
        if b"%" in raw_path:
            scope["path"] = keep_encoded_slashes(scope["path"], raw_path).replace("\0", _NUL)
        query = scope["query_string"]
        if query:
            scope["query_string"] = query.replace(b"%00", _ENCODED_NUL)
        start = time.perf_counter()
        if scope["method"] == "POST" and scope["path"] in self._told:
            try:
                await self._app(scope, receive, send)
            finally:
                self._count(scope, scope.get(STATUS, 0), start)
            return
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            self._count(scope, status, start)

    def _count(self, scope: Scope, status: int, start: float) -> None:
        seconds = time.perf_counter() - start
        self.services.metrics.count_request(
            scope.get(ROUTE, _OTHER), scope["method"], status, seconds
        )

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.services.start()
        except SetupError as error:
            await self.services.stop()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        _log.info("serving", roles=sorted(self.services.roles), log=self.services.log.name)
        await receive()
        await self.services.stop()
        await send({"type": "lifespan.shutdown.complete"})
