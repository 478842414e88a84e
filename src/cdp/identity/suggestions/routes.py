"""Suggestions over HTTP: search, look, accept, reject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from cdp.access.audit_store import record
from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.errors import NotFound, Unavailable
from cdp.identity.by_hand_store import Hand
from cdp.identity.identifiers import normalise
from cdp.identity.rules import Rules
from cdp.identity.suggestions.decide_store import accept, reject
from cdp.identity.suggestions.plan_queue import Status
from cdp.identity.suggestions.queue_store import Suggestion, find_suggestion, list_suggestions
from cdp.identity.suggestions.runner import SuggestionRunner, is_installed
from cdp.identity.suggestions.show import show_run, show_suggestion
from cdp.identity.suggestions.sides_store import read_sides
from cdp.runtime.clock import now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, Driver, driver

Steward = Annotated[Caller, Depends(require("identity:write"))]
Reader = Annotated[Caller, Depends(require("profiles:read|identity:write"))]
_TRIES = 5


class RejectBody(BaseModel):
    """Why two people are not one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=2000)


class AcceptBody(RejectBody):
    """Why two people are one."""

    allow_unique_conflict: bool = False


def create_router(
    database: Database, read_rules: Callable[[], Rules], runner: SuggestionRunner
) -> APIRouter:
    """Return the routes of suggestions."""
    router = APIRouter(tags=["identity"])

    def show(conn: Driver, found: Sequence[Suggestion], caller: Caller) -> list[dict[str, Any]]:
        rules = read_rules()
        sides = read_sides(conn, found, lambda kind, value: normalise(kind, value, rules), now())
        note_people(len(found))
        return [
            show_suggestion(one, sides, rules, sees_personal=caller.sees_personal) for one in found
        ]

    def decide(caller: Caller, reason: str, work: Callable[[Hand], Suggestion]) -> dict[str, Any]:
        """Carry out a decision, again when it met another writer; return the suggestion."""
        for _ in range(_TRIES):
            try:
                with database.transaction() as connection:
                    tx = driver(connection)
                    hand = Hand(tx, read_rules().country, caller.actor, reason, now())
                    return show(tx, [work(hand)], caller)[0]
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                continue
        raise Unavailable("busy", "others change the same people; try again soon")

    @router.get("/v1/identity/suggestions")
    def get_suggestions(
        caller: Reader,
        status: Status = "open",
        min_score: Annotated[float, Query(ge=0, le=1)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List people who may be one, the likeliest first, with what speaks for it."""
        below = decode_cursor(cursor, tuple[float, int]) if cursor else None
        run = runner.renew() if below is None else runner.newest()
        with database.snapshot() as connection:
            tx = driver(connection)
            found = list_suggestions(
                tx, status=status, min_score=min_score, below=below, limit=limit + 1
            )
            page, following = cut_page(found, limit, lambda one: (one.score, one.number))
            shown = show(tx, page, caller)
        return {
            "data": shown,
            "next": following,
            "run": show_run(run, is_installed=is_installed()),
        }

    @router.post("/v1/identity/suggestions/run", status_code=202)
    def post_run(caller: Steward) -> dict[str, Any]:
        """Search for people who may be one; while a search is under way, that one is answered."""
        run, is_new = runner.ask(caller.actor)
        if is_new:
            with database.transaction() as connection:
                record(driver(connection), caller.actor, "identity_suggestions_run", run.run_id)
        return show_run(run, is_installed=True) or {}

    @router.get("/v1/identity/suggestions/run")
    def get_run(caller: Reader) -> dict[str, Any]:
        """Show the newest search: how far it is, or how it ended."""
        run = runner.newest()
        if run is None:
            raise NotFound("run_not_found", "nobody has searched yet")
        return show_run(run, is_installed=True) or {}

    @router.delete("/v1/identity/suggestions/run")
    def delete_run(caller: Steward) -> dict[str, Any]:
        """End the search under way; the queue stays as it was."""
        ended = runner.cancel()
        if ended is None:
            raise NotFound("run_not_found", "no search is under way")
        with database.transaction() as connection:
            record(driver(connection), caller.actor, "identity_suggestions_cancelled", ended.run_id)
        return show_run(ended, is_installed=True) or {}

    @router.get("/v1/identity/suggestions/{suggestion_id}")
    def get_suggestion(caller: Reader, suggestion_id: str) -> dict[str, Any]:
        """Show one suggestion, decided or not."""
        with database.snapshot() as connection:
            tx = driver(connection)
            found = find_suggestion(tx, suggestion_id)
            if found is None:
                raise NotFound("suggestion_not_found", "no suggestion has this id")
            return show(tx, [found], caller)[0]

    @router.post("/v1/identity/suggestions/{suggestion_id}/accept")
    def post_accept(caller: Steward, suggestion_id: str, body: AcceptBody) -> dict[str, Any]:
        """Make the two one person by a merge by hand, to be undone like any."""
        return decide(
            caller,
            body.reason,
            lambda hand: accept(
                hand, suggestion_id, allow_unique_conflict=body.allow_unique_conflict
            ),
        )

    @router.post("/v1/identity/suggestions/{suggestion_id}/reject")
    def post_reject(caller: Steward, suggestion_id: str, body: RejectBody) -> dict[str, Any]:
        """Keep that the two are not one person; not suggested again without new evidence."""
        return decide(caller, body.reason, lambda hand: reject(hand, suggestion_id))

    return router
