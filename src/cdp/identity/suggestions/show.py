"""A suggestion as a caller sees it: who the two are, what speaks for it, what forbids it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdp.access.masking import mask_identifier, mask_text
from cdp.identity.rules import Rules
from cdp.identity.suggestions.queue_store import Suggestion
from cdp.identity.suggestions.runs_store import Run
from cdp.identity.suggestions.said import Said
from cdp.model import Identifier
from cdp.runtime.clock import format_time

_MOST_NAMES = 20
_CONTACT_FIELDS = ("email", "phone")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two people, as they are now."""

    profile_id: str
    identifiers: tuple[Identifier, ...]
    said: Said


def show_suggestion(
    one: Suggestion, sides: Mapping[int, Side], rules: Rules, *, sees_personal: bool
) -> dict[str, Any]:
    """Return a suggestion as JSON; values are masked for who may not see them.

    ``sides`` are the people by number; one who is gone is left out.
    """
    two = [sides.get(person) if person else None for person in (one.person_a, one.person_b)]
    is_apart = one.person_a != one.person_b
    return {
        "id": one.suggestion_id,
        "status": one.status,
        "score": round(one.score, 6),
        "weight": round(one.weight, 2),
        "profiles": [_show_side(side, rules, sees_personal) for side in two if side],
        "evidence": [_show_evidence(part, two, sees_personal) for part in one.evidence],
        "forbidden_by": list_forbidding(two, rules) if is_apart else [],
        "found_at": format_time(one.found_at),
        "seen_at": format_time(one.seen_at),
        "decided_at": format_time(one.decided_at) if one.decided_at else None,
        "decided_by": one.decided_by,
        "reason": one.reason,
        "decision_id": one.decision_id,
    }


def list_forbidding(two: Sequence[Side | None], rules: Rules) -> list[dict[str, Any]]:
    """Return the unique types of which the two have different values."""
    one, other = two
    if one is None or other is None:
        return []
    found = []
    types = {name.type for side in (one, other) for name in side.identifiers}
    for type_name in sorted(types):
        ours, theirs = (
            sorted(name.value for name in side.identifiers if name.type == type_name)
            for side in (one, other)
        )
        if rules.rule_of(type_name).unique and ours and theirs and ours != theirs:
            found.append({"type": type_name, "a": ours, "b": theirs})
    return found


def show_run(run: Run | None, *, is_installed: bool) -> dict[str, Any] | None:
    """Return the newest search as JSON."""
    if run is None:
        return None if is_installed else {"state": "not_installed"}
    error = None
    if run.error_code is not None:
        error = {"code": run.error_code, "message": run.error_message}
    return {
        "id": run.run_id,
        "state": run.state,
        "phase": run.phase,
        "actor": run.actor,
        "requested_at": format_time(run.requested_at),
        "started_at": format_time(run.started_at) if run.started_at else None,
        "finished_at": format_time(run.finished_at) if run.finished_at else None,
        "people": run.people,
        "pairs": run.pairs,
        "suggestions": run.suggestions,
        "model": run.model,
        "error": error,
    }


def _show_side(side: Side, rules: Rules, sees_personal: bool) -> dict[str, Any]:
    names = sorted(side.identifiers, key=rules.order_of)[:_MOST_NAMES]
    shown = [
        {
            "type": name.type,
            "value": name.value if sees_personal else mask_identifier(name.type, name.value),
        }
        for name in names
    ]
    return {"id": side.profile_id, "identifiers": shown}


def _show_evidence(
    part: Mapping[str, Any], two: Sequence[Side | None], sees_personal: bool
) -> dict[str, Any]:
    field = part["field"]
    values = [side.said.show(field) if side else [] for side in two]
    if field in _CONTACT_FIELDS:
        # What both have comes first: it is what counts.
        both = set(values[0]) & set(values[1])
        values = [sorted(own, key=lambda value: (value not in both, value)) for own in values]
    if not sees_personal:
        values = [[mask_text(value) for value in own] for own in values]
    return {
        "field": field,
        "level": part["level"],
        "weight": part["weight"],
        "a": values[0],
        "b": values[1],
    }
