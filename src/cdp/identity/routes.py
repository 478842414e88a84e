"""Identity over HTTP: the rules, and why people are who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, NamedTuple, get_args

from fastapi import APIRouter, Body, Depends, Query

from cdp.access.guard import require
from cdp.access.masking import mask_identifier
from cdp.access.read_audit import note_people, note_person
from cdp.access.scopes import Caller
from cdp.errors import NotFound
from cdp.identity import by_hand_routes, dry_run_routes, rules_job_routes, survey_routes
from cdp.identity.by_hand_routes import Steward
from cdp.identity.change_rules_store import RulesVersion, change_rules, list_versions
from cdp.identity.explain_store import (
    Step,
    explain,
    list_blocked,
    list_changes,
    list_refusals,
    list_steps,
)
from cdp.identity.facts import JoinRule
from cdp.identity.find_store import (
    PROFILE_ID_TYPE,
    FoundProfile,
    find_named_node,
    find_profile,
)
from cdp.identity.history import Line, order_history
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules as read_newest
from cdp.model import Identifier
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, Driver, driver

_JOINS = frozenset(get_args(JoinRule))

Reader = Annotated[Caller, Depends(require("profiles:read|identity:write"))]

ReadName = Callable[[str], Identifier]
"""From ``type:value`` in a path to the normalised identifier; raises ``NotFound``."""


def create_router(
    database: Database,
    read_rules: Callable[[], Rules],
    read_name: ReadName,
    rules_changed: Callable[[], None] = lambda: None,
) -> APIRouter:
    """Return the routes of identity. ``rules_changed`` is told when the rules are others."""
    router = APIRouter(tags=["identity"])
    by_hand_routes.add_routes(router, database, read_rules, rules_changed)
    rules_job_routes.add_routes(router, database, read_rules, rules_changed)
    dry_run_routes.add_routes(router, database, read_rules)
    survey_routes.add_routes(router, database, read_rules)

    @router.get("/v1/identity/rules")
    def get_rules(caller: Reader) -> dict[str, Any]:
        """Show the rules: identifier types, their strength, limits and blocked values."""
        with database.snapshot() as connection:
            return read_newest(driver(connection), read_rules().country).document()

    @router.put("/v1/identity/rules")
    def put_rules(caller: Steward, body: Annotated[Any, Body()]) -> dict[str, Any]:
        """Replace the rules. They hold at once; the people of before follow in the background."""
        with database.transaction() as connection:
            country = read_rules().country
            rules = change_rules(driver(connection), body, country, caller.actor)
        rules_changed()
        return rules.document()

    @router.get("/v1/identity/rules/versions")
    def get_versions(
        caller: Reader,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List the versions of the rules, the newest first, and how far each was applied."""
        below = decode_cursor(cursor, tuple[int])[0] if cursor else None
        with database.snapshot() as connection:
            found = list_versions(driver(connection), below=below, limit=limit + 1)
        page, following = cut_page(found, limit, lambda one: (one.version,))
        return {"data": [_show_version(one) for one in page], "next": following}

    @router.get("/v1/identity/refused")
    def get_refused(
        caller: Reader,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List the joins that were withheld, the newest first."""
        below = decode_cursor(cursor, tuple[int])[0] if cursor else None
        with database.snapshot() as connection:
            found = list_refusals(driver(connection), below=below, limit=limit + 1)
        page, following = cut_page(found, limit, lambda row: (row["id"],))
        note_people(len(page))
        shown = [
            {
                "a": _show(row["a"], caller),
                "b": _show(row["b"], caller),
                "reason": row["reason"],
                "message_id": row["message_id"],
                "source_id": row["source_id"],
                "at": format_time(row["at"]),
            }
            for row in page
        ]
        return {"data": shown, "next": following}

    @router.get("/v1/profiles/{p}/history", dependencies=[Depends(after_profiles)])
    def get_history(
        caller: Reader,
        p: str,
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Show every join, refusal, merge, parting and redirect of a person, oldest first."""
        past = decode_cursor(cursor, tuple[datetime, bool, str]) if cursor else None
        with database.snapshot() as connection:
            tx = driver(connection)
            found, _ = _find(tx, read_name(p))
            steps = list_steps(tx, read_rules(), found.node_ids)
            lines = order_history(steps, list_changes(tx, found.node_ids))
        rest = [line for line in lines if past is None or line.place > past]
        page, following = cut_page(rest, limit, lambda line: line.place)
        return {"data": [show_line(line, caller) for line in page], "next": following}

    @router.get("/v1/profiles/{p}/explain", dependencies=[Depends(after_profiles)])
    def get_explanation(
        caller: Reader, p: str, other: Annotated[str, Query(alias="with")]
    ) -> dict[str, Any]:
        """Show by which events two identifiers are one person, or what withheld it."""
        sides = _read_side(read_name, p), _read_side(read_name, other)
        with database.snapshot() as connection:
            tx = driver(connection)
            if any(one.is_blocked for one in sides):
                return _explain_blocked(tx, sides, caller)
            ours, our_node = _find(tx, sides[0].name)
            theirs, their_node = _find(tx, sides[1].name)
            told = explain(
                tx,
                read_rules(),
                [our_node, *ours.node_ids],
                [their_node, *theirs.node_ids],
                same=ours.profile_no == theirs.profile_no,
            )
        return {
            "same": told.same,
            "path": [_show_edge(step, caller) for step in told.path],
            "withheld": [_show_edge(step, caller) for step in told.withheld],
        }

    return router


def show_line(line: Line, caller: Caller) -> dict[str, Any]:
    """Return a line of a history as ``caller`` sees it."""
    if isinstance(line.told, Step):
        return _show_step(line.told, caller)
    return {**line.told, "at": format_time(line.told["at"])}


class _Side(NamedTuple):
    name: Identifier
    is_blocked: bool


def _read_side(read_name: ReadName, text: str) -> _Side:
    """Read a name that is asked about, also one that a rule withholds from everybody."""
    try:
        return _Side(read_name(text), False)
    except NotFound as error:
        if error.details.get("withheld") != "blocked":
            raise
        kind, _, value = error.details["identifier"].partition(":")
        return _Side(Identifier(kind, value), True)


def _explain_blocked(conn: Driver, sides: Iterable[_Side], caller: Caller) -> dict[str, Any]:
    """Say which of the two is nobody's, by the events that carried it beside the other."""
    one, other = sorted(sides, key=lambda side: side.is_blocked)
    found = None if one.is_blocked else _find(conn, one.name)[0]
    steps = list_blocked(conn, other.name, found.node_ids) if found else []
    # It may never have been seen with the other: it is withheld all the same.
    told = [_show_edge(step, caller) for step in steps] or [
        {
            "from": _show(one.name, caller),
            "to": _show(other.name, caller),
            "message_id": None,
            "at": None,
            "source_id": None,
            "rule": "blocked",
        }
    ]
    return {"same": False, "path": [], "withheld": told}


def _show_version(one: RulesVersion) -> dict[str, Any]:
    return {
        "version": one.version,
        "actor": one.actor,
        "at": format_time(one.made_at),
        "state": one.state,
        "components": one.components,
        "components_total": one.components_total,
        "profiles_changed": one.profiles,
        "applied_at": format_time(one.applied_at) if one.applied_at else None,
        "rules": one.document,
    }


def _find(conn: Driver, asked: Identifier) -> tuple[FoundProfile, int]:
    found = find_profile(conn, asked)
    if found is None:
        raise NotFound("profile_not_found", "no profile goes by this identifier")
    note_person(found.profile_id)
    if asked.type == PROFILE_ID_TYPE:
        return found, found.profile_no
    return found, find_named_node(conn, asked) or found.profile_no


def _show(name: Identifier, caller: Caller) -> str:
    value = name.value if caller.sees_personal else mask_identifier(name.type, name.value)
    return f"{name.type}:{value}"


def _show_edge(step: Step, caller: Caller) -> dict[str, Any]:
    return {
        "from": _show(step.strong, caller),
        "to": _show(step.weak, caller),
        "message_id": step.evidence.message_id,
        "at": format_time(step.at),
        "source_id": step.evidence.source_id,
        "rule": step.rule,
    }


def _show_step(step: Step, caller: Caller) -> dict[str, Any]:
    change = "joined" if step.rule in _JOINS else "refused"
    return {"change": change, **_show_edge(step, caller)}
