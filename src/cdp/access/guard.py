"""The guard in front of the API: who asks and whether they may is settled before anything else.

FastAPI reads and checks the body before it runs a dependency, so a dependency alone would tell a
stranger what is wrong with their body. ``Guard`` therefore stands before the routes; a route says
what it needs by ``Depends(require("profiles:read"))`` and receives the ``Caller``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from re import Pattern
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from cdp.access.scopes import ADMIN, SCOPES, Caller
from cdp.access.token_directory import TokenDirectory
from cdp.errors import Forbidden, Unauthorized
from cdp.runtime.error_answers import EXPECTED_ERRORS, answer_error

ROUTE = "cdp.route"
"""The key of an ASGI scope under which a request's route is named."""


class Requirement:
    """A FastAPI dependency: what a route needs. Gives the ``Caller`` that the guard let through."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self.scopes = scopes

    def __call__(self, request: Request) -> Caller:
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None:
            raise Unauthorized("unauthorized", "no guard stands before this route")
        return caller


class _Public:
    """Marks a route that anybody may ask."""

    def __call__(self) -> None:
        return None


public = _Public()
"""``Depends(public)``: for the few routes without a token (health, metrics)."""


def require(*scopes: str) -> Requirement:
    """Return the dependency for a route that needs all of ``scopes``; none: any valid token.

    ``a|b`` is either of the two.
    """
    unknown = [one for scope in scopes for one in scope.split("|") if one not in SCOPES]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a scope")
    return Requirement(scopes)


class GuardedRoute(NamedTuple):
    """A route as the guard knows it. ``scopes`` is ``None`` for a public one."""

    pattern: Pattern[str]
    template: str
    methods: frozenset[str]
    scopes: tuple[str, ...] | None


def read_requirements(routers: Iterable[APIRouter]) -> list[GuardedRoute]:
    """Return what each route of ``routers`` needs. One that says nothing needs ``admin``."""
    return [
        GuardedRoute(
            route.path_regex,
            route.path_format,
            frozenset(route.methods or ()),
            _read_scopes(route.dependant),
        )
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    ]


def _read_scopes(dependant: Dependant) -> tuple[str, ...] | None:
    calls = list(_walk(dependant))
    needed = [call.scopes for call in calls if isinstance(call, Requirement)]
    if needed:
        return tuple(dict.fromkeys(scope for scopes in needed for scope in scopes))
    return None if any(isinstance(call, _Public) for call in calls) else (ADMIN,)


def _walk(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _walk(inner)


class Guard:
    """ASGI middleware that answers 401 and 403 before the body is read or anything is looked up.

    Leaves the route's template in ``scope[ROUTE]`` for the metrics.
    """

    def __init__(self, app: ASGIApp, *, routes: list[GuardedRoute], tokens: TokenDirectory) -> None:
        self._app = app
        self._routes = routes
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = self._find(scope["path"], scope["method"])
            if route is not None:
                scope[ROUTE] = route.template
            if route is not None and route.scopes is not None:
                try:
                    caller = await self._admit(scope, route.scopes)
                except EXPECTED_ERRORS as error:
                    await answer_error(error)(scope, receive, send)
                    return
                scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _find(self, path: str, method: str) -> GuardedRoute | None:
        for route in self._routes:
            if method in route.methods and route.pattern.match(path):
                return route
        return None

    async def _admit(self, scope: Scope, scopes: tuple[str, ...]) -> Caller:
        token = read_bearer(scope)
        if token is None:
            raise Unauthorized("missing_token", "send a token as `Authorization: Bearer cdp_…`")
        known, caller = self._tokens.recall(token)
        if not known:
            caller = await run_in_threadpool(self._tokens.look_up, token)
        if caller is None:
            raise Unauthorized("unknown_token", "this token is unknown or was revoked")
        missing = caller.lacks(scopes)
        if missing:
            raise Forbidden(
                "missing_scope",
                f"this needs a token with the scope {missing[0].replace('|', ' or ')}",
                details={"missing": missing},
            )
        return caller


def read_bearer(scope: Scope) -> str | None:
    """Return the token in the ``Authorization`` header, if there is one."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() or None if scheme.lower() == "bearer" else None
    return None
