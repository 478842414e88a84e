"""A person's service over HTTP: tickets, calls, answers, complaints, reviews."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from cdp.access import masking
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.service.fold import LISTS, Shown, show_service
from cdp.service.service_store import read_service_events
from cdp.storage.database import Driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
FindPerson = Callable[[str], AbstractContextManager[tuple[Driver, int]]]
"""Gives a snapshot and the number of the person whom a name leads to; raises ``NotFound``."""


def create_router(find_person: FindPerson) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["service"], dependencies=[Depends(after_profiles)])

    def read(p: str, caller: Caller) -> dict[str, Any]:
        moment = now()
        with find_person(p) as (tx, profile_no):
            told = read_service_events(tx, profile_no, moment)
        shown = show_service(told, moment)
        if caller.sees_personal:
            return shown
        lists = {name: [masking.mask_properties(row) for row in shown[name]] for name in LISTS}
        return {**shown, **lists}

    @router.get("/v1/profiles/{p}/service")
    def get_service(caller: Reader, p: str, limit: Limit = 100) -> Response:
        """Show a person's tickets with status and age, calls, answers, complaints and reviews.

        Of each list the newest `limit`; the lists have routes of their own, page by page.
        """
        shown = read(p, caller)
        return _answer({**shown, **{name: shown[name][:limit] for name in LISTS}})

    @router.get("/v1/profiles/{p}/service/{kind}")
    def list_service(
        caller: Reader,
        p: str,
        kind: Literal["tickets", "calls", "answers", "complaints", "reviews"],
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Response:
        """List what there is of one kind, the newest first."""
        rows: list[Shown] = read(p, caller)[kind]
        if cursor is not None:
            rows = _skip(rows, *decode_cursor(cursor, tuple[str, str]))
        page, following = cut_page(rows[: limit + 1], limit, _find_place)
        return _answer({"data": page, "next": following})

    return router


def _find_place(row: Shown) -> tuple[str, str]:
    """Return when it was last told of, and its id, which comes first of all."""
    return row.get("updated_at") or row["at"], str(next(iter(row.values())))


def _skip(rows: list[Shown], at: str, record_id: str) -> list[Shown]:
    """Return the rows behind the one with this id; when that has moved, those that are older."""
    for number, row in enumerate(rows):
        if _find_place(row) == (at, record_id):
            return rows[number + 1 :]
    return [row for row in rows if _find_place(row)[0] < at]


def _answer(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
