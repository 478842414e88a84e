"""Looking at identity as a whole over HTTP: which identifiers tie too many people together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.identity.dry_run_routes import show_identifier
from cdp.identity.hot_store import HotIdentifier, list_hot
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules as read_newest
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, driver

Reader = Annotated[Caller, Depends(require("profiles:read|identity:write"))]


def add_routes(router: APIRouter, database: Database, read_rules: Callable[[], Rules]) -> None:
    """Add the routes that look at everybody."""

    @router.get("/v1/identity/hot")
    def get_hot(
        caller: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> dict[str, Any]:
        """List the identifiers that were seen with most people, and those withdrawn for it."""
        with database.snapshot() as connection:
            tx = driver(connection)
            rules = read_newest(tx, read_rules().country)
            found = list_hot(tx, rules, limit=limit)
        note_people(len(found))
        shown = [_show_hot(one, caller) for one in found]
        return {"data": shown, "hot_limit": rules.hot_limit, "next": None}


def _show_hot(one: HotIdentifier, caller: Caller) -> dict[str, Any]:
    return {
        **show_identifier(one.identifier, caller),
        "people": one.people,
        "level": one.level,
        "events": one.events,
        "first_seen": format_time(one.first_seen),
        "last_seen": format_time(one.last_seen),
        "sources": list(one.sources),
        "quarantined": one.quarantined,
        "blocked": one.blocked,
        "examples": [show_identifier(name, caller) for name in one.examples],
    }
