"""Looking at identity as a whole over HTTP: what other rules would change, and what is hot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from cdp.access.guard import require
from cdp.access.masking import mask_identifier
from cdp.access.scopes import Caller
from cdp.identity.change_rules_store import read_document
from cdp.identity.dry_run_store import Example, dry_run
from cdp.identity.hot_store import list_hot
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules as read_newest
from cdp.model import Identifier
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Steward = Annotated[Caller, Depends(require("identity:write"))]


class DryRunBody(BaseModel):
    """Rules to be tried."""

    model_config = ConfigDict(extra="forbid")

    rules: dict[str, Any]


def add_routes(router: APIRouter, database: Database, read_rules: Callable[[], Rules]) -> None:
    """Add the routes that look at everybody."""

    @router.post("/v1/identity/dry-run")
    def post_dry_run(caller: Steward, body: DryRunBody) -> dict[str, Any]:
        """Count who would part and who would join under other rules; changes nothing."""
        rules = read_document(body.rules, "/rules")
        with database.snapshot() as connection:
            tx = driver(connection)
            blocks = read_newest(tx, read_rules().country).blocks
            found = dry_run(tx, rules.with_blocks(blocks))
        return {
            "components": found.components,
            "would_part": found.parting,
            "would_join": found.joining,
            "examples": {
                "part": [_show_example(one, caller) for one in found.parts],
                "join": [_show_example(one, caller) for one in found.joins],
            },
        }

    @router.get("/v1/identity/hot")
    def get_hot(
        caller: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> dict[str, Any]:
        """List the identifiers that were seen with most people, and those withdrawn for it."""
        with database.snapshot() as connection:
            tx = driver(connection)
            rules = read_newest(tx, read_rules().country)
            found = list_hot(tx, rules, limit=limit)
        shown = [
            {
                **_show(one.identifier, caller),
                "people": one.people,
                "events": one.events,
                "last_seen": format_time(one.last_seen),
                "quarantined": one.quarantined,
                "blocked": one.blocked,
            }
            for one in found
        ]
        return {"data": shown, "hot_limit": rules.hot_limit, "next": None}


def _show(name: Identifier, caller: Caller) -> dict[str, str]:
    value = name.value if caller.sees_personal else mask_identifier(name.type, name.value)
    return {"type": name.type, "value": value}


def _show_example(one: Example, caller: Caller) -> dict[str, Any]:
    people: Iterable[tuple[Identifier, ...]] = one.people
    return {
        "profiles": list(one.profile_ids),
        "people": [[_show(name, caller) for name in person] for person in people],
    }
