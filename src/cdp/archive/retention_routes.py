"""How long events are kept, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.archive import retention_store as retention
from cdp.archive.retention import Rule
from cdp.errors import Unprocessable
from cdp.runtime.clock import format_time
from cdp.storage.database import Database, Driver, driver

Admin = Annotated[Caller, Depends(require("admin"))]

_MOST_DAYS = 36_500


class RuleBody(BaseModel):
    """Events of this source and name are kept for so many days."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str | None = Field(None, description="Id of a source; without it every source.")
    event: str | None = Field(
        None,
        min_length=1,
        description="Name of a track call, `page` or `screen`; without it every event.",
    )
    days: int = Field(ge=1, le=_MOST_DAYS)


class RulesBody(BaseModel):
    """All rules of the workspace."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rules: list[RuleBody] = Field(max_length=1000)


def create_router(database: Database) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["privacy"])

    @router.get("/v1/retention")
    def get_retention(caller: Admin) -> dict[str, Any]:
        """Show the rules, those of sources' settings too, and what they have removed so far."""
        with database.snapshot() as connection:
            return _show(driver(connection))

    @router.put("/v1/retention")
    def put_retention(caller: Admin, body: RulesBody) -> dict[str, Any]:
        """Let these be the rules: all that match an event count, the shortest time wins.

        Events that happened earlier vanish from timelines, SQL, segments and the archive within a
        day; what they came to (traits, consents, orders, counters) stays.
        """
        with database.transaction() as connection:
            tx = driver(connection)
            sources = retention.read_sources(tx)
            for place, one in enumerate(body.rules):
                if one.source is not None and one.source not in sources:
                    raise Unprocessable(
                        "unknown_source", "no source has this id", path=f"/rules/{place}/source"
                    )
            rules = [Rule(one.source, one.event, one.days) for one in body.rules]
            retention.replace_rules(tx, rules)
            details = {"rules": len(rules)}
            audit_store.record(tx, caller.actor, "retention_put", "retention", details)
            return _show(tx)

    return router


def _show(tx: Driver) -> dict[str, Any]:
    def show(rule: Rule) -> dict[str, Any]:
        return {"source": rule.source_id, "event": rule.event, "days": rule.days}

    return {
        "rules": [show(rule) for rule in retention.read_rules(tx)],
        "sources": [show(rule) for rule in retention.read_source_rules(tx)],
        "removed": [
            {
                **row,
                "before": format_time(row["before"]),
                "removed_at": format_time(row["removed_at"]) if row["removed_at"] else None,
            }
            for row in retention.read_removals(tx)
        ],
    }
