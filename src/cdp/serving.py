"""The outermost layer: starts and stops the services, counts every request, catches every fault."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdp.errors import SetupError
from cdp.profiles.profile_names import keep_encoded_slashes
from cdp.runtime.clock import now
from cdp.runtime.error_answers import answer_error
from cdp.runtime.logs import get_logger
from cdp.runtime.metrics import start_clock
from cdp.services import Services

_log = get_logger(__name__)
_ROUTE = "cdp.route"
"""Under which the guard and the ingest routes leave the route's template in the scope."""


class Serving:
    """ASGI application around ``app``."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self.services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = keep_encoded_slashes(scope["path"], scope.get("raw_path") or b"")
        seconds = start_clock()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            route = scope.get(_ROUTE, "other")
            _log.error("unexpected_error", route=route, exc_info=error)
            self.services.errors.add(now(), route, error)
            if status == 0:
                await answer_error(error)(scope, receive, watch)
        finally:
            route = scope.get(_ROUTE, "other")
            self.services.metrics.count_request(route, scope["method"], status, seconds())

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
