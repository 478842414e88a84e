"""How far the people of before have followed the newest rules, and the way back, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.identity.by_hand_routes import Steward
from cdp.identity.change_rules_store import RulesVersion, find_newest, roll_back
from cdp.identity.rules import Rules
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, driver

Reader = Annotated[Caller, Depends(require("profiles:read|identity:write"))]


class RollbackBody(BaseModel):
    """The version whose document is to hold again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(ge=1, le=2**31 - 1)


def add_routes(
    router: APIRouter,
    database: Database,
    read_rules: Callable[[], Rules],
    rules_changed: Callable[[], None],
) -> None:
    """Add the routes. ``rules_changed`` is told when the rules are others."""

    @router.get("/v1/identity/rules/status")
    def get_status(caller: Reader) -> dict[str, Any]:
        """Show how far the people of before have been worked out anew under the newest rules."""
        with database.snapshot() as connection:
            newest = find_newest(driver(connection))
        return describe_application(newest)

    @router.post("/v1/identity/rules/rollback")
    def post_rollback(caller: Steward, body: RollbackBody) -> dict[str, Any]:
        """Make the rules of a former version hold again, under a new version.

        Version 1 is the default rules. Blocks by hand stay as they are.
        """
        with database.transaction() as connection:
            country = read_rules().country
            rules = roll_back(driver(connection), body.version, country, caller.actor)
        rules_changed()
        return rules.document()


def describe_application(newest: RulesVersion | None) -> dict[str, Any]:
    """Return the progress of the newest version as a JSON object; ``None``: the default rules."""
    if newest is None:
        return {
            "version": 1,
            "state": "applied",
            "components": {"done": 0, "total": 0},
            "profiles_changed": 0,
            "at": None,
            "applied_at": None,
        }
    total = newest.components_total
    if total is not None:
        # Components come and go meanwhile.
        is_done = newest.applied_at is not None
        total = newest.components if is_done else max(total, newest.components)
    return {
        "version": newest.version,
        "state": newest.state,
        "components": {"done": newest.components, "total": total},
        "profiles_changed": newest.profiles,
        "at": format_time(newest.made_at),
        "applied_at": format_time(newest.applied_at) if newest.applied_at else None,
    }
