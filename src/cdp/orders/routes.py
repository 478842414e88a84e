"""Orders over HTTP: a person's, and one by its id with every version that was told of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from cdp.access import masking
from cdp.access.guard import require
from cdp.access.read_audit import note_nothing_personal, note_person
from cdp.access.scopes import Caller
from cdp.errors import NotFound
from cdp.orders.figures import show_figures
from cdp.orders.name_amounts import name_amounts
from cdp.orders.order import find_head
from cdp.orders.order_document import Shown, show_order, show_version
from cdp.orders.orders_read_store import (
    FoundOrder,
    Version,
    find_order,
    read_all_orders,
    read_orders,
    read_versions,
)
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, Driver, driver
from cdp.storage.rates_store import read_rates_for

Reader = Annotated[Caller, Depends(require("profiles:read"))]
FindPerson = Callable[[str], AbstractContextManager[tuple[Driver, int]]]
"""Gives a snapshot and the number of the person whom a name leads to; raises ``NotFound``."""


def create_router(
    database: Database,
    find_person: FindPerson,
    read_name: Callable[[str], str],
    currency: str = "CNY",
) -> APIRouter:
    """Return the routes. ``read_name`` gives an id as it was before it travelled in a path;

    ``currency`` is the one in which figures are reported.
    """
    router = APIRouter(tags=["orders"], dependencies=[Depends(after_profiles)])

    @router.get("/v1/profiles/{p}/orders")
    def list_orders(
        caller: Reader,
        p: str,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """Show a person's orders as they stand, net of refunds, newest first."""
        past = decode_cursor(cursor, tuple[datetime, int]) if cursor else None
        with find_person(p) as (tx, profile_no):
            orders = read_orders(tx, profile_no, limit=limit + 1, past=past)
        page, following = cut_page(orders, limit, lambda placed: placed[0])
        is_masked = not caller.sees_personal
        return _answer(
            {
                "data": [show_order(order, is_masked=is_masked) for _, order in page],
                "next": following,
            }
        )

    @router.get("/v1/profiles/{p}/figures")
    def get_figures(
        caller: Reader, p: str, top: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> Response:
        """Show what a person's orders come to: sums, times, days between, what they buy.

        `reporting` is in the reporting currency by dated rates; it is null when one is missing,
        and `missing_rates` says which. `top` is how many items and categories are listed.
        """
        with find_person(p) as (tx, profile_no):
            orders = read_all_orders(tx, profile_no)
            rates = read_rates_for(tx, ((o.currency, o.placed_at) for o in orders), currency)
        figures = show_figures(orders, currency, rates, now(), top)
        return _answer(figures if caller.sees_personal else masking.mask_properties(figures))

    @router.get("/v1/orders/{order_id}")
    def get_order(caller: Reader, order_id: str, scope: str | None = None) -> Response:
        """Show an order as it stands, whose it is, and every version that was told of it.

        `scope` is the numbering, where sources have one of their own.
        """
        with database.snapshot() as connection:
            tx = driver(connection)
            found = find_order(tx, read_name(order_id), scope)
            if found is None:
                raise NotFound("order_not_found", "no order goes by this id")
            versions = read_versions(tx, found.scope, found.order.order_id)
        if found.profile_id is None:
            note_nothing_personal()
        else:
            note_person(found.profile_id)
        is_masked = not caller.sees_personal
        return _answer(
            {
                **show_order(found.order, is_masked=is_masked),
                "scope": found.scope,
                "profile_id": found.profile_id,
                "versions": _show_versions(found, versions, is_masked=is_masked),
            }
        )

    return router


def _show_versions(found: FoundOrder, versions: list[Version], *, is_masked: bool) -> list[Shown]:
    """Show versions, newest first; the one that the order's total is taken from is current."""
    head = find_head([version.report for version in versions])
    return [
        {
            **show_version(name_amounts(version.report, found.order.currency), is_masked=is_masked),
            "source_id": version.source_id,
            "source": version.source,
            "is_current": version.report == head,
        }
        for version in versions
    ]


def _answer(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
