"""Accounts over HTTP: what is known of them, who belongs to them, what these come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from cdp.access.guard import require
from cdp.access.masking import is_personal
from cdp.access.read_audit import note_people
from cdp.access.scopes import PII_READ, Caller
from cdp.accounts.account_document import show_account, show_figures, show_members
from cdp.accounts.accounts_read_store import (
    Account,
    Member,
    Search,
    find_account,
    list_accounts,
    read_descendants,
    read_members,
    read_relatives,
)
from cdp.accounts.figures_store import read_figures
from cdp.errors import Forbidden, NotFound
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.storage.database import Database, Driver, driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
_FIRST_MEMBERS = 100
_TRAIT_PREFIX = "trait."


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of one database; ``read_name`` gives an id as it was before its path."""

    database: Database
    read_name: Callable[[str], str]

    @contextmanager
    def find(self, account_id: str, moment: datetime) -> Iterator[tuple[Driver, Account]]:
        """Give a snapshot and the account as of ``moment``; raise ``NotFound`` without one."""
        with self.database.snapshot() as connection:
            tx = driver(connection)
            account = find_account(tx, self.read_name(account_id), moment)
            if account is None:
                raise NotFound("account_not_found", "no account goes by this id")
            yield tx, account


def create_router(
    database: Database, read_name: Callable[[str], str], currency: str = "CNY"
) -> APIRouter:
    """Return the routes. ``currency`` is the one in which figures are reported."""
    router = APIRouter(tags=["accounts"], dependencies=[Depends(after_profiles)])
    accounts = Accounts(database, read_name)

    @router.get("/v1/accounts")
    def list_all(
        caller: Reader,
        request: Request,
        type: str | None = None,
        q: Annotated[str | None, Query(max_length=200)] = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Response:
        """List accounts in the order in which they became known: all, or those of one `type`, with

        `trait.<name>=<value>`, or whose id or name begins with `q`, in either case.
        """
        traits = _read_traits(request.query_params.multi_items(), caller)
        search = Search(type, traits, q or None, caller.sees_personal)
        after = _decode_place(cursor)
        with database.snapshot() as connection:
            found = list_accounts(
                driver(connection), now(), after=after, limit=limit + 1, search=search
            )
        page, following = cut_page(found, limit, lambda one: (one.account_no,))
        is_masked = not caller.sees_personal
        return _answer(
            {"data": [show_account(one, is_masked=is_masked) for one in page], "next": following}
        )

    @router.get("/v1/accounts/{account_id}")
    def get_account(caller: Reader, account_id: str) -> Response:
        """Show an account: traits, relatives, its first members, and what all members come to.

        `rollup` is what the members of it and of all accounts below it come to, each person once;
        null where nothing is below.
        """
        moment = now()
        with accounts.find(account_id, moment) as (tx, account):
            above, below = read_relatives(tx, account, moment)
            members = read_members(
                tx, account.account_no, moment, after=0, limit=_FIRST_MEMBERS + 1
            )
            figures = read_figures(tx, [account.account_no], moment, currency)
            rollup = None
            if below:
                family = read_descendants(tx, account.account_no, moment)
                told = show_figures(read_figures(tx, family, moment, currency))
                rollup = {"accounts": len(family), **told}
        note_people(len(members[:_FIRST_MEMBERS]))
        shown = show_members(members[:_FIRST_MEMBERS], is_masked=not caller.sees_personal)
        return _answer(
            {
                **show_account(account, is_masked=not caller.sees_personal),
                "ancestors": above,
                "children": below,
                "members": shown,
                "members_next": _find_next(members, _FIRST_MEMBERS),
                "figures": show_figures(figures),
                "rollup": rollup,
            }
        )

    @router.get("/v1/accounts/{account_id}/members")
    def list_members(
        caller: Reader, account_id: str, limit: Limit = 100, cursor: str | None = None
    ) -> Response:
        """List the people who belong to an account, each once, with their role."""
        moment, after = now(), _decode_place(cursor)
        with accounts.find(account_id, moment) as (tx, account):
            members = read_members(tx, account.account_no, moment, after=after, limit=limit + 1)
        note_people(len(members[:limit]))
        shown = show_members(members[:limit], is_masked=not caller.sees_personal)
        return _answer({"data": shown, "next": _find_next(members, limit)})

    return router


def _read_traits(parameters: Iterable[tuple[str, str]], caller: Caller) -> dict[str, str]:
    """Return which traits are asked for; who may not see one may not look for it either."""
    found = {
        name.removeprefix(_TRAIT_PREFIX): value
        for name, value in parameters
        if name.startswith(_TRAIT_PREFIX)
    }
    for name in found:
        if is_personal(name) and not caller.sees_personal:
            raise Forbidden(
                "forbidden", f"to search by {name} takes the scope {PII_READ}",
                details={"scope": PII_READ},
            )  # fmt: skip
    return found


def _find_next(members: list[Member], limit: int) -> str | None:
    if len(members) <= limit:
        return None
    return encode_cursor((members[limit - 1].profile_no,))


def _decode_place(cursor: str | None) -> int:
    return decode_cursor(cursor, tuple[int])[0] if cursor else 0


def _answer(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
