"""The tracking plan over HTTP: what is sent, what is planned, and how the two differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import Unprocessable
from cdp.plan import plan_store
from cdp.plan.diff import diff_plans, show_diff
from cdp.plan.observed import EventKey, Observed, merge_sources
from cdp.plan.observed_engine import DuckFile, read_learned, read_observed, rows_of, snapshot
from cdp.plan.plan import Document, check_document, plan_for
from cdp.plan.plan_store import PlanVersion
from cdp.plan.propose import REQUIRED_FROM, propose_plan
from cdp.plan.show_observed import show_observed
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

Planner = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
NAMED_PLANS = ("current", "observed")
Side = Annotated[
    Any, Field(description="A document, `current`, `observed`, or the number of a version.")
]


class LearnBody(BaseModel):
    """What to propose from."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = Field(None, description="One source's traffic only.")
    base: str = Field(
        "current", pattern="^(current|empty)$", description="What the proposal is added to."
    )
    required_from: int = Field(
        REQUIRED_FROM, ge=1, description="Events before a property can be proposed as required."
    )


class DiffBody(BaseModel):
    """Two plans to compare."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    before: Side = Field("current", alias="from")
    after: Side = Field(alias="to")


def create_router(
    database: Database, duck_file: DuckFile, plan_changed: Callable[[], None] = lambda: None
) -> APIRouter:
    """Return the routes. ``plan_changed`` is told when there is another version."""
    router = APIRouter(tags=["tracking plan"])

    def read_current() -> Document:
        with database.snapshot() as connection:
            return plan_store.read_plan(driver(connection))

    def propose(body: LearnBody) -> Document:
        base = read_current()
        if body.base == "empty":
            base = {"version": base["version"], "events": {}}
        with snapshot(duck_file) as duck:
            observed = read_observed(duck, source_id=body.source)
        return propose_plan(observed, base, required_from=body.required_from)

    def choose(side: Any, within: str) -> Document:
        """Return the plan that one side of a comparison names."""
        if side == "current":
            return read_current()
        if side == "observed":
            return propose(LearnBody(source=None, base="empty", required_from=REQUIRED_FROM))
        if isinstance(side, int) and not isinstance(side, bool):
            with database.snapshot() as connection:
                return plan_store.find_version(driver(connection), side).document
        if isinstance(side, str):
            names = ", ".join(NAMED_PLANS)
            raise Unprocessable("unknown_plan", f"a document, a version, or {names}", path=within)
        return check_document(side, within)

    @router.get("/v1/plan")
    def get_plan(caller: Planner) -> dict[str, Any]:
        """Show the plan that holds; version 0 and no events before the first."""
        return read_current()

    @router.put("/v1/plan")
    def put_plan(caller: Planner, body: Annotated[Any, Body()]) -> dict[str, Any]:
        """Replace the plan. It holds within a second; the version is the one it was read at."""
        with database.transaction() as connection:
            document = plan_store.change_plan(driver(connection), body, caller.actor)
        plan_changed()
        return document

    @router.get("/v1/plan/versions")
    def get_versions(
        caller: Planner, limit: Limit = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List the versions of the plan, the newest first."""
        below = decode_cursor(cursor, tuple[int])[0] if cursor else None
        with database.snapshot() as connection:
            found = plan_store.list_versions(driver(connection), below=below, limit=limit + 1)
        page, following = cut_page(found, limit, lambda one: (one.version,))
        return {"data": [_show_version(one) for one in page], "next": following}

    @router.get("/v1/plan/versions/{version}")
    def get_version(caller: Planner, version: int) -> dict[str, Any]:
        """Show one version with its document."""
        with database.snapshot() as connection:
            found = plan_store.find_version(driver(connection), min(version, 2**31 - 1))
        return {**_show_version(found), "plan": found.document}

    @router.get("/v1/plan/observed")
    def get_observed(
        caller: Planner,
        source: str | None = None,
        event: str | None = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Show what is sent: events with their properties, types, shares and examples."""
        after = _read_cursor(cursor)
        plan = read_current()
        general = plan_for(plan, source or "") if plan["version"] else None
        with snapshot(duck_file) as duck:
            observed = read_observed(duck, source_id=source, event=event)
            behind = _list_sources(observed)
            if source is None:
                observed = merge_sources(observed)
            keys = [key for key in sorted(observed) if after is None or tuple(key[1:]) > after]
            page = {key: observed[key] for key in keys[:limit]}
            shown = show_observed(
                duck,
                page,
                sees_personal=caller.sees_personal,
                plan=general,
                sources=behind if source is None else None,
            )
            freshness = _show_freshness(duck_file, duck)
        following = encode_cursor(tuple(keys[limit - 1][1:])) if len(keys) > limit else None
        return {"data": shown, "next": following, **freshness}

    @router.post("/v1/plan/learn")
    def learn(
        caller: Planner, body: Annotated[LearnBody, Body(default_factory=LearnBody)]
    ) -> dict[str, Any]:
        """Propose a plan from what was observed, to be read, changed and put. Writes nothing."""
        return {"plan": propose(body)}

    @router.post("/v1/plan/diff")
    def diff(caller: Planner, body: DiffBody) -> dict[str, Any]:
        """Say what changes from one plan to another, and whether senders of today would break."""
        return show_diff(diff_plans(choose(body.before, "/from"), choose(body.after, "/to")))

    return router


def _show_version(one: PlanVersion) -> dict[str, Any]:
    return {
        "version": one.version,
        "actor": one.actor,
        "at": format_time(one.made_at),
        "events": len(one.document["events"]),
    }


def _read_cursor(cursor: str | None) -> tuple[str, str] | None:
    return decode_cursor(cursor, tuple[str, str]) if cursor else None


def _list_sources(observed: Observed) -> Mapping[EventKey, list[str]]:
    behind: dict[EventKey, list[str]] = {}
    for key in observed:
        behind.setdefault(EventKey("", key.type, key.event), []).append(key.source_id)
    return behind


def _show_freshness(duck_file: DuckFile, duck: Any) -> dict[str, Any]:
    """Say up to which time everything is in the figures."""
    learned = read_learned(duck)
    applied = rows_of(duck, "SELECT seq FROM core.applied")[0]["seq"]
    as_of = duck_file.as_of() if learned.seq >= applied else learned.as_of
    lag = None if as_of is None else max(0, round((now() - as_of).total_seconds() * 1000))
    return {"as_of": None if as_of is None else format_time(as_of), "lag_ms": lag}
