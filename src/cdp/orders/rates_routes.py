"""Rates of currencies over HTTP: what is known of them, and what is to be."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.orders.read_rates import read_currency, read_rows
from cdp.rates import Rate
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, driver
from cdp.storage.rates_store import list_rates, tell_rates, write_rates

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Writer = Annotated[Caller, Depends(require("admin"))]


def create_router(database: Database) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["rates"])

    @router.get("/v1/rates")
    def get_rates(
        _: Reader,
        currency: str | None = None,
        to: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List rates of currencies, newest first: a unit of `currency` is `rate` of `to`."""
        past = decode_cursor(cursor, tuple[date, str, str]) if cursor else None
        with database.snapshot() as connection:
            rates = list_rates(
                driver(connection),
                limit=limit + 1,
                currency=None if currency is None else read_currency(currency, "/currency"),
                to=None if to is None else read_currency(to, "/to"),
                past=past,
            )
        page, following = cut_page(rates, limit, lambda rate: (rate.at, rate.currency, rate.to))
        return {"data": [show_rate(rate) for rate in page], "next": following}

    @router.put("/v1/rates")
    def put_rates(
        caller: Writer,
        body: Annotated[
            Any,
            Body(
                examples=[
                    {
                        "rates": [
                            {"currency": "USD", "to": "CNY", "at": "2026-03-01", "rate": "7.12"}
                        ]
                    }
                ]
            ),
        ],
    ) -> dict[str, Any]:
        """Add or replace rates, up to 10,000 at once; those that are not named stay as they are.

        A rate holds from its date (UTC) until the next one of its pair; `"rate": null` removes it.
        """
        changes = read_rows(body)
        with database.transaction() as connection:
            tx = driver(connection)
            changed = write_rates(tx, changes)
            if changed:
                pairs = sorted({f"{one.currency}/{one.to}" for one in changes})
                details = {"rows": len(changes), "changed": changed, "pairs": pairs[:50]}
                audit_store.record(tx, caller.actor, "rates_changed", "rates", details)
                tell_rates(tx)
        return {"rates": len(changes), "changed": changed}

    return router


def show_rate(rate: Rate) -> dict[str, Any]:
    """Return a rate as it is written: its decimal as text."""
    return {
        "currency": rate.currency,
        "to": rate.to,
        "at": rate.at.isoformat(),
        "rate": format(rate.rate.normalize(), "f"),
    }
