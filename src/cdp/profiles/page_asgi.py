"""The page of a person, in front of FastAPI: what most reads ask for costs what it is made of.

Finding the route among all others, its parameters and a thread cost FastAPI as much as Postgres
takes to answer. Whatever is out of the ordinary goes on to the route, which describes itself and
answers the same.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from cdp.access.guard import ROUTE
from cdp.profiles.pages import Asked, Pages
from cdp.runtime.error_answers import EXPECTED_ERRORS, answer_error

PROFILE_ROUTE = "/v1/profiles/{p}"
_BEFORE_NAME = len("/v1/profiles/")
_THREADS = 8
_PLAIN: Final = frozenset({"fields", "include", "limit"})
_LIMITS = range(1, 1001)


class ServePages:
    """Inside ``Guard`` and ``WatchReads``: answers for a person as of now."""

    def __init__(self, app: ASGIApp, *, pages: Pages) -> None:
        self._app = app
        self._pages = pages
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pages")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = read_asked(scope) if scope.get(ROUTE) == PROFILE_ROUTE else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        show = copy_context().run
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                self._threads, show, self._pages.show, asked
            )
        except EXPECTED_ERRORS as error:
            answer = answer_error(error)
        await answer(scope, receive, send)


def read_asked(scope: Scope) -> Asked | None:
    """Return what a request asks for; ``None`` when it is nothing of the ordinary.

    Ordinary are `fields`, `include` and `limit`, each once and with a value.
    """
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    query = scope["query_string"].decode("latin-1")
    pairs = parse_qsl(query, keep_blank_values=True) if query else []
    given = dict(pairs)
    if len(given) < len(pairs) or not given.keys() <= _PLAIN or "" in given.values():
        return None
    limit = given.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and int(limit) in _LIMITS):
        return None
    matches = [value for name, value in scope["headers"] if name == b"if-none-match"]
    if len(matches) > 1:
        return None
    return Asked(
        scope["path"][_BEFORE_NAME:],
        scope["state"]["caller"],
        given.get("fields"),
        given.get("include"),
        limit=int(limit),
        if_none_match=matches[0].decode("latin-1") if matches else None,
    )
