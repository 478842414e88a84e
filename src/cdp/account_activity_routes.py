"""What the members of an account bought and did, over HTTP: their orders and events in one list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query

from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.accounts.accounts_read_store import Account, read_descendants
from cdp.accounts.activity_store import read_member_events, read_member_orders
from cdp.accounts.routes import Accounts
from cdp.orders.order_document import show_order
from cdp.orders.order_words import Order
from cdp.profiles.profile_document import show_event
from cdp.profiles.profile_store import read_sources
from cdp.profiles.timeline_store import TimelineEvent, read_row
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, Driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Below = Annotated[bool, Query(description="Those of the accounts below it too.")]
_decode_order = msgspec.json.Decoder(Order).decode


def create_router(database: Database, read_name: Callable[[str], str]) -> APIRouter:
    """Return the routes. ``read_name`` gives an id as it was before it travelled in a path."""
    router = APIRouter(tags=["accounts"], dependencies=[Depends(after_profiles)])
    accounts = Accounts(database, read_name)

    @router.get("/v1/accounts/{account_id}/orders")
    def list_orders(
        caller: Reader,
        account_id: str,
        below: Below = False,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List the orders of those who belong to an account now, newest first."""
        moment = now()
        past = decode_cursor(cursor, tuple[datetime, int]) if cursor else None
        with accounts.find(account_id, moment) as (tx, account):
            numbers = _list_numbers(tx, account, moment, below=below)
            found = read_member_orders(tx, numbers, moment, limit=limit + 1, past=past)
        page, following = cut_page(found, limit, lambda row: row[0])
        note_people(len({profile_id for *_, profile_id in page}))
        is_masked = not caller.sees_personal
        rows = [
            {"profile_id": profile_id, **show_order(_decode_order(text), is_masked=is_masked)}
            for _, text, profile_id in page
        ]
        return {"data": rows, "next": following}

    @router.get("/v1/accounts/{account_id}/events")
    def list_events(
        caller: Reader,
        account_id: str,
        event: str | None = None,
        below: Below = False,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List what those who belong to an account now did, newest first.

        What lies in the archive is on the people's own timelines only.
        """
        moment = now()
        past = decode_cursor(cursor, tuple[datetime, int, str]) if cursor else None
        with accounts.find(account_id, moment) as (tx, account):
            numbers = _list_numbers(tx, account, moment, below=below)
            rows = read_member_events(tx, numbers, moment, limit=limit + 1, event=event, past=past)
            sources = read_sources(tx)
        found: list[tuple[TimelineEvent, str]] = [(read_row(row[:-1]), row[-1]) for row in rows]
        page, following = cut_page(found, limit, lambda one: one[0].key)
        note_people(len({profile_id for _, profile_id in page}))
        is_masked = not caller.sees_personal
        shown = [
            {"profile_id": profile_id, **show_event(one, sources, is_masked=is_masked)}
            for one, profile_id in page
        ]
        return {"data": shown, "next": following}

    return router


def _list_numbers(tx: Driver, account: Account, moment: datetime, *, below: bool) -> list[int]:
    if not below:
        return [account.account_no]
    return read_descendants(tx, account.account_no, moment)
