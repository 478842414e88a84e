"""Changes of profiles over HTTP: a cursor that never misses and never repeats one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import CursorExpired, Unprocessable
from cdp.profiles.feed_store import KINDS, FeedRow, catch_up, read_ends, read_feed
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

LATEST = "latest"

Place = tuple[int, int]
"""The number of a row, and how many of its changes were read."""

_EXAMPLE = {
    "data": [
        {"change": "created", "profile_id": "prf_01J9", "at": "2026-03-01T08:00:00.000Z",
         "version": 1},
        {"change": "traits", "profile_id": "prf_01J9", "at": "2026-03-01T08:00:02.000Z",
         "version": 2, "traits": ["city", "plan"]},
        {"change": "merged", "profile_id": "prf_01J9", "into": "prf_01H7",
         "at": "2026-03-01T08:05:00.000Z", "version": 9},
        {"change": "deleted", "profile_id": "prf_01H7", "at": "2026-03-02T09:00:00.000Z"},
    ],
    "next": "WzQyLDBd",
}  # fmt: skip


def create_router(database: Database) -> APIRouter:
    """Return the route that tells what happens to profiles."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])

    @router.get(
        "/v1/profiles/changes",
        responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}},
    )
    def list_profile_changes(
        caller: Annotated[Caller, Depends(require("profiles:read"))],
        since: Annotated[
            str | None,
            Query(
                description="`next` of the last answer; `latest`: from now on; none: from the"
                " oldest that is kept."
            ),
        ] = None,
        types: Annotated[
            str | None, Query(description="Only these, comma-separated: " + ", ".join(KINDS))
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """List what happened to profiles, in commit order; ask again with `next` to go on for ever.

        Names of traits and purposes are told, values never. `next` is always given.
        """  # fmt: skip
        wanted = read_kinds(types)
        place: Place | None = None
        if since not in (None, LATEST):
            place = decode_cursor(since or "", tuple[int, int], "since")
        catch_up(database)
        with database.snapshot() as connection:
            tx = driver(connection)
            ends = read_ends(tx)
            if since == LATEST:
                place = (ends.newest + 1, 0)
            elif place is None:
                place = (ends.dropped + 1, 0)
            elif place[0] <= ends.dropped:
                raise CursorExpired(
                    "cursor_expired",
                    "changes after this cursor are not kept any more; read all profiles anew,"
                    " with a cursor of `since=latest` taken before",
                )
            # Of the first row all may have been read.
            rows = read_feed(tx, since=place[0], limit=limit + 2, kinds=wanted)
        page, following = take_page(rows, place, limit, wanted)
        if following is None:
            following = (ends.newest + 1, 0)
        document = {"data": page, "next": encode_cursor(following)}
        return Response(msgspec.json.encode(document), media_type="application/json")

    return router


def read_kinds(types: str | None) -> frozenset[str] | None:
    """Return the kinds that are asked for, ``None`` for all; raise ``Unprocessable``."""
    if types is None:
        return None
    wanted = [kind.strip() for kind in types.split(",") if kind.strip()]
    for kind in wanted:
        if kind not in KINDS:
            raise Unprocessable(
                "unknown_type", f"{kind!r} is none of {', '.join(KINDS)}", path="/types"
            )
    return frozenset(wanted) if wanted else None


def take_page(
    rows: Iterable[FeedRow], place: Place, limit: int, kinds: Collection[str] | None
) -> tuple[list[dict[str, Any]], Place | None]:
    """Return at most ``limit`` changes of ``rows`` past ``place``, and where the rest begins.

    ``None``: there is no rest.
    """
    page: list[dict[str, Any]] = []
    for row in rows:
        done = place[1] if row.change_no == place[0] else 0
        for position, kind in enumerate(row.kinds):
            if position < done or (kinds is not None and kind not in kinds):
                continue
            if len(page) == limit:
                return page, (row.change_no, position)
            page.append(show_change(row, kind))
    return page, None


def show_change(row: FeedRow, kind: str) -> dict[str, Any]:
    """Return one change as consumers see it: names of what changed, never values."""
    shown: dict[str, Any] = {
        "change": kind,
        "profile_id": row.profile_id,
        "at": format_time(row.at),
    }
    if row.version is not None:
        shown["version"] = row.version
    if row.other_id is not None:
        shown["into" if kind == "merged" else "from"] = row.other_id
    if kind == "traits":
        shown["traits"] = list(row.traits)
    if kind == "consent":
        shown["purposes"] = list(row.purposes)
    return shown
