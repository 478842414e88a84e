"""How a person came and where they are met, over HTTP: sessions, channels, touches."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from cdp.access import masking
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.profiles.channels_store import read_channels
from cdp.profiles.profile_parts import PartQuery
from cdp.profiles.profile_store import read_sources
from cdp.profiles.routes import People, answer_rows
from cdp.profiles.sessions_store import Sessions, read_sessions, show_session
from cdp.profiles.timeline_store import Archived
from cdp.profiles.touches_store import read_touches
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
At = Annotated[str | None, Query(description="As of this time.")]


def create_router(people: People) -> APIRouter:
    """Return the routes of a person's visits."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])

    @router.get("/v1/profiles/{p}/sessions")
    def list_sessions(
        caller: Reader, p: str, at: At = None, limit: Limit = 100, cursor: str | None = None
    ) -> Response:
        """Show a person's visits, newest first: a source's events up to 30 minutes apart.

        `count` and `last_session_at` are those of all sessions.
        """
        past = decode_cursor(cursor, tuple[datetime, int]) if cursor else None
        with people.find(p) as (tx, _, found):
            shown = show_sessions(
                tx,
                found.profile_no,
                read_query_time("at", at) or now(),
                limit,
                past,
                is_masked=_is_masked(caller),
                archived=people.archived,
            )
        return Response(msgspec.json.encode(shown), media_type="application/json")

    @router.get("/v1/profiles/{p}/channels")
    def list_channels(caller: Reader, p: str, at: At = None) -> Response:
        """Show the channels a person uses, the one used last first, with events and orders."""
        with people.find(p) as (tx, _, found):
            moment = read_query_time("at", at) or now()
            rows = read_channels(tx, found.profile_no, moment, people.archived)
        return answer_rows(rows, None)

    @router.get("/v1/profiles/{p}/touches")
    def get_touches(caller: Reader, p: str, at: At = None) -> dict[str, Any]:
        """Show what brought a person first and last, as of `at`."""
        with people.find(p) as (tx, _, found):
            touches = read_touches(tx, found.profile_no, read_query_time("at", at) or now())
        first, last = (_mask(one, _is_masked(caller)) for one in touches)
        return {"first_touch": first, "last_touch": last}

    return router


def show_sessions(
    tx: Driver,
    profile_no: int,
    at: datetime,
    limit: int,
    past: tuple[datetime, int] | None = None,
    *,
    is_masked: bool,
    archived: Archived | None = None,
) -> dict[str, Any]:
    """Return a page of sessions as it is shown, and what all of them come to."""
    found: Sessions = read_sessions(
        tx, profile_no, at, limit=limit + 1, past=past, archived=archived
    )
    page, following = cut_page(found.page, limit, lambda session: session.key)
    sources = read_sources(tx)
    last = found.last_ended_at
    return {
        "data": [_mask(show_session(one, sources), is_masked) for one in page],
        "next": following,
        "count": found.count,
        "last_session_at": None if last is None else format_time(last),
    }


def read_sessions_part(query: PartQuery) -> Any:
    """Return a person's newest sessions, to be shown with the profile."""
    return show_sessions(
        query.tx,
        query.profile_no,
        query.now,
        query.limit,
        is_masked=query.is_masked,
        archived=query.archived,
    )


def read_channels_part(query: PartQuery) -> Any:
    """Return a person's channels, to be shown with the profile."""
    return {
        "data": read_channels(query.tx, query.profile_no, query.now, query.archived),
        "next": None,
    }


def _is_masked(caller: Caller) -> bool:
    return not caller.sees_personal


def _mask(row: dict[str, Any] | None, is_masked: bool) -> dict[str, Any] | None:
    return masking.mask_properties(row) if is_masked and row is not None else row
