"""Accounts over HTTP: what is known of them, who belongs to them, what these come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from cdp.access import masking
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.accounts.accounts_read_store import (
    Account,
    Figures,
    Member,
    find_account,
    list_accounts,
    read_figures,
    read_members,
    read_relatives,
)
from cdp.errors import NotFound
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
_FIRST_MEMBERS = 100


def create_router(database: Database, read_name: Callable[[str], str]) -> APIRouter:
    """Return the routes. ``read_name`` gives an id as it was before it travelled in a path."""
    router = APIRouter(tags=["accounts"], dependencies=[Depends(after_profiles)])

    @router.get("/v1/accounts")
    def list_all(
        caller: Reader, type: str | None = None, limit: Limit = 100, cursor: str | None = None
    ) -> Response:
        """List accounts, also of one `type`, in the order in which they became known."""
        after = _decode_place(cursor)
        with database.snapshot() as connection:
            accounts = list_accounts(
                driver(connection), now(), after=after, limit=limit + 1, type=type
            )
        page, following = cut_page(accounts, limit, lambda one: (one.account_no,))
        is_masked = not caller.sees_personal
        return _answer(
            {"data": [show_account(one, is_masked=is_masked) for one in page], "next": following}
        )

    @router.get("/v1/accounts/{account_id}")
    def get_account(caller: Reader, account_id: str) -> Response:
        """Show an account: traits, relatives, its first members, and what all members come to."""
        moment = now()
        with database.snapshot() as connection:
            tx = driver(connection)
            account = find_account(tx, read_name(account_id), moment)
            if account is None:
                raise _not_found()
            above, below = read_relatives(tx, account, moment)
            members = read_members(
                tx, account.account_no, moment, after=0, limit=_FIRST_MEMBERS + 1
            )
            figures = read_figures(tx, account.account_no, moment)
        shown = show_members(members[:_FIRST_MEMBERS], is_masked=not caller.sees_personal)
        return _answer(
            {
                **show_account(account, is_masked=not caller.sees_personal),
                "ancestors": above,
                "children": below,
                "members": shown,
                "members_next": _find_next(members, _FIRST_MEMBERS),
                "figures": show_figures(figures),
            }
        )

    @router.get("/v1/accounts/{account_id}/members")
    def list_members(
        caller: Reader, account_id: str, limit: Limit = 100, cursor: str | None = None
    ) -> Response:
        """List the people who belong to an account, each once, with their role."""
        moment, after = now(), _decode_place(cursor)
        with database.snapshot() as connection:
            tx = driver(connection)
            account = find_account(tx, read_name(account_id), moment)
            if account is None:
                raise _not_found()
            members = read_members(tx, account.account_no, moment, after=after, limit=limit + 1)
        shown = show_members(members[:limit], is_masked=not caller.sees_personal)
        return _answer({"data": shown, "next": _find_next(members, limit)})

    return router


def show_account(account: Account, *, is_masked: bool) -> dict[str, Any]:
    """Return an account's own facts."""
    traits = masking.mask_traits(account.traits) if is_masked else account.traits
    updated_at = account.updated_at
    return {
        "account_id": account.account_id,
        "type": account.type,
        "parent_account_id": account.parent,
        "traits": traits,
        "created_at": format_time(account.created_at),
        "updated_at": None if updated_at is None else format_time(updated_at),
    }


def show_members(members: Iterable[Member], *, is_masked: bool) -> list[dict[str, Any]]:
    """Return members as they are listed; a role is free text, so it may hold a contact."""
    rows = [
        {"profile_id": one.profile_id, "role": one.role, "since": format_time(one.since)}
        for one in members
    ]
    return [masking.mask_traits(row) for row in rows] if is_masked else rows


def show_figures(figures: Figures) -> dict[str, Any]:
    """Return the sums over the members; revenue is net of refunds, per currency."""
    return {
        "members": figures.members,
        "events": figures.events,
        "orders": sum(each.orders_with_net for each in figures.revenue),
        "net_revenue": [
            {"amount": each.net, "currency": each.currency} for each in figures.revenue
        ],
    }


def _find_next(members: list[Member], limit: int) -> str | None:
    if len(members) <= limit:
        return None
    return encode_cursor((members[limit - 1].profile_no,))


def _decode_place(cursor: str | None) -> int:
    return decode_cursor(cursor, tuple[int])[0] if cursor else 0


def _not_found() -> NotFound:
    return NotFound("account_not_found", "no account goes by this id")


def _answer(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
