"""Decisions by hand over HTTP: merge, unmerge, block, undo, and the list of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import psycopg
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from cdp.access.guard import require
from cdp.access.masking import mask_identifier
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.errors import Unavailable, Unprocessable
from cdp.identity.by_hand_store import Hand
from cdp.identity.deciding_store import Decided
from cdp.identity.decisions_store import Decision, list_decisions
from cdp.identity.find_store import PROFILE_ID_TYPE
from cdp.identity.identifiers import normalise
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, driver

Steward = Annotated[Caller, Depends(require("identity:write"))]
Reader = Annotated[Caller, Depends(require("profiles:read|identity:write"))]
Answer = TypeVar("Answer")

_TRIES = 5


class Named(BaseModel):
    """An identifier as a caller writes it; type ``id`` is any profile id ever issued."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str = Field(min_length=1, max_length=100)
    value: str | int


class _Reasoned(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=2000)
    """Kept with the decision, for whoever asks later."""


class MergeBody(_Reasoned):
    """Whose people are to be one."""

    identifiers: list[Named] = Field(min_length=2, max_length=100)
    allow_unique_conflict: bool = False


class UnmergeBody(_Reasoned):
    """One identifier that is to leave its person, or several that are one person each."""

    identifiers: list[Named] = Field(min_length=1, max_length=100)


class BlockBody(_Reasoned):
    """An identifier that is nobody's."""

    type: str = Field(min_length=1, max_length=100)
    value: str | int


class UndoBody(_Reasoned):
    """Why a decision is withdrawn."""


def add_routes(
    router: APIRouter,
    database: Database,
    read_rules: Callable[[], Rules],
    rules_changed: Callable[[], None],
) -> None:
    """Add the routes of decisions. ``rules_changed`` is told when the blocks are others."""

    def decide(caller: Caller, reason: str, work: Callable[[Hand], Answer]) -> Answer:
        """Carry out ``work``, again when it met another writer."""
        for _ in range(_TRIES):
            try:
                with database.transaction() as connection:
                    country = read_rules().country
                    return work(Hand(driver(connection), country, caller.actor, reason, now()))
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                continue
        raise Unavailable("busy", "others change the same people; try again soon")

    @router.post("/v1/identity/merge")
    def post_merge(caller: Steward, body: MergeBody) -> dict[str, Any]:
        """Make the people of some identifiers one, until it is undone."""
        names = _read_names(body.identifiers, read_rules())
        made = decide(
            caller,
            body.reason,
            lambda hand: hand.merge(names, allow_unique_conflict=body.allow_unique_conflict),
        )
        return {"id": made.decision_id, "profile_id": next(iter(made.profiles.values()))}

    @router.post("/v1/identity/unmerge")
    def post_unmerge(caller: Steward, body: UnmergeBody) -> dict[str, Any]:
        """Take one identifier from its person, or say that several are one person each."""
        names = _read_names(body.identifiers, read_rules())
        made = decide(caller, body.reason, lambda hand: hand.unmerge(names))
        return _show_decided(made)

    @router.post("/v1/identity/undo/{decision_id}")
    def post_undo(caller: Steward, decision_id: str, body: UndoBody) -> dict[str, Any]:
        """Withdraw a merge, an unmerge or a block; once more does nothing."""
        made = decide(caller, body.reason, lambda hand: hand.undo(decision_id))
        rules_changed()
        return {"id": made.decision_id, "undone": True}

    @router.post("/v1/identity/block")
    def post_block(caller: Steward, body: BlockBody) -> dict[str, Any]:
        """Let an identifier name nobody; the people that it tied together come apart."""
        made = decide(caller, body.reason, lambda hand: hand.block(body.type, body.value))
        rules_changed()
        return {"id": made.decision_id}

    @router.post("/v1/identity/unblock")
    def post_unblock(caller: Steward, body: BlockBody) -> dict[str, Any]:
        """Undo the block of an identifier."""
        made = decide(caller, body.reason, lambda hand: hand.unblock(body.type, body.value))
        rules_changed()
        return {"id": made.decision_id, "undone": True}

    @router.get("/v1/identity/decisions")
    def get_decisions(
        caller: Reader,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List what was decided by hand, the newest first, undone or not."""
        below = decode_cursor(cursor, tuple[int])[0] if cursor else None
        with database.snapshot() as connection:
            found = list_decisions(driver(connection), below=below, limit=limit + 1)
        page, following = cut_page(found, limit, lambda one: (one.decision_no,))
        note_people(len(page))
        return {"data": [_show_decision(one, caller) for one in page], "next": following}


def _read_names(named: Sequence[Named], rules: Rules) -> list[Identifier]:
    names: list[Identifier] = []
    for position, one in enumerate(named):
        value = one.value if one.type == PROFILE_ID_TYPE else normalise(one.type, one.value, rules)
        if value is None:
            path = f"/identifiers/{position}/value"
            raise Unprocessable("names_nobody", "no identifier has such a value", path=path)
        names.append(Identifier(one.type, str(value)))
    return names


def _show_decided(made: Decided) -> dict[str, Any]:
    profiles = [
        {"type": name.type, "value": name.value, "profile_id": profile_id}
        for name, profile_id in made.profiles.items()
    ]
    return {"id": made.decision_id, "profiles": profiles}


def _show_decision(one: Decision, caller: Caller) -> dict[str, Any]:
    shown = [
        {
            "type": name.type,
            "value": name.value if caller.sees_personal else mask_identifier(name.type, name.value),
        }
        for name in one.identifiers
    ]
    return {
        "id": one.decision_id,
        "kind": one.kind,
        "identifiers": shown,
        "actor": one.actor,
        "reason": one.reason,
        "at": format_time(one.made_at),
        "undone_at": format_time(one.undone_at) if one.undone_at else None,
        "undone_by": one.undone_by,
        "undone_reason": one.undone_reason,
    }
