"""Tokens and the audit over HTTP. All of it is for ``admin``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store, tokens_store
from cdp.access.guard import require
from cdp.access.read_audit import note_nothing_personal
from cdp.access.scopes import ADMIN, SCOPES, Caller
from cdp.access.token_directory import TokenDirectory
from cdp.errors import NotFound, Unprocessable
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Database, driver

Admin = Annotated[Caller, Depends(require(ADMIN))]
Limit = Annotated[int, Query(ge=1, le=1000)]


class NewToken(BaseModel):
    """What a token is to be called and to allow."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    scopes: list[str] = Field(min_length=1)


ListIds = Callable[[str], Sequence[str]]
"""From a person's name (``email:ann@example.com``, a profile id) to every id they ever had."""


def _name_only(name: str) -> Sequence[str]:
    return [name.removeprefix("id:")]


def create_router(
    database: Database,
    tokens: TokenDirectory,
    list_ids: ListIds = _name_only,
    flush: Callable[[], None] = lambda: None,
) -> APIRouter:
    """Return the routes of tokens and audit. ``flush`` writes the reads that wait in memory."""
    router = APIRouter(tags=["access"])

    @router.get("/v1/tokens")
    def list_tokens(caller: Admin, limit: Limit = 100, cursor: str | None = None) -> dict[str, Any]:
        """List the tokens in use, oldest first; their text is never shown again."""
        after = decode_cursor(cursor, tuple[datetime, str]) if cursor else None
        with database.transaction() as connection:
            found = tokens_store.list_tokens(driver(connection), limit=limit + 1, after=after)
        page, following = cut_page(found, limit, lambda token: (token.created_at, token.token_id))
        return {"data": [_show(token) for token in page], "next": following}

    @router.post("/v1/tokens", status_code=201)
    def create_token(caller: Admin, body: NewToken) -> dict[str, Any]:
        """Make a token; this answer is the only place where it can be read."""
        for index, scope in enumerate(body.scopes):
            if scope not in SCOPES:
                raise Unprocessable(
                    "unknown_scope",
                    f"{scope!r} is not a scope; these are: {', '.join(SCOPES)}",
                    path=f"/scopes/{index}",
                )
        with database.transaction() as connection:
            tx = driver(connection)
            token_id, token = tokens_store.create_token(tx, body.name, body.scopes)
            details = {"name": body.name, "scopes": sorted(set(body.scopes))}
            audit_store.record(tx, caller.actor, "token_created", token_id, details)
        return {"id": token_id, "name": body.name, "scopes": body.scopes, "token": token}

    @router.delete("/v1/tokens/{token_id}", status_code=204)
    def revoke_token(caller: Admin, token_id: str) -> Response:
        """Make a token useless: here at once, on other nodes within a second."""
        with database.transaction() as connection:
            tx = driver(connection)
            if not tokens_store.revoke_token(tx, token_id, now()):
                raise NotFound("token_not_found", "there is no such token in use")
            audit_store.record(tx, caller.actor, "token_revoked", token_id)
        tokens.forget()
        return Response(status_code=204)

    @router.get("/v1/audit")
    def list_audit(
        caller: Admin,
        actor: str | None = None,
        action: str | None = None,
        profile: Annotated[
            str | None, Query(description="Any identifier, such as email:ann@example.com.")
        ] = None,
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Show who changed what and who read whose personal values, newest first.

        A read is `personal_read`: its subject is the profile id, or `people` with their `count`.
        """
        wanted = audit_store.AuditFilter(
            actor=actor,
            action=action,
            subjects=None if profile is None else list_ids(profile),
            since=read_query_time("from", since),
            until=read_query_time("to", until),
        )
        before = decode_cursor(cursor, tuple[int])[0] if cursor else None
        # To find whose entries these are is no look at the person.
        note_nothing_personal()
        flush()
        with database.transaction() as connection:
            found = audit_store.list_audit(
                driver(connection), limit=limit + 1, before=before, wanted=wanted
            )
        page, following = cut_page(found, limit, lambda entry: (entry["id"],))
        return {"data": page, "next": following}

    return router


def _show(token: tokens_store.Token) -> dict[str, Any]:
    used = token.last_used_at
    return {
        "id": token.token_id,
        "name": token.name,
        "scopes": list(token.scopes),
        "created_at": format_time(token.created_at),
        "last_used_at": None if used is None else format_time(used),
    }
