"""★ The verdict of the plan on one event, by the mode of its source. Pure.

    observe   nothing is checked
    flag      the event is taken as it is, and marked
    omit      what the plan does not have or forbids is taken out; the rest is taken and marked
    block     an event that is not planned, or breaks its schema, is refused

A property that the schema does not name, nor speaks of otherwise, is unplanned: marked in every
mode, taken out by ``omit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cdp.model import EventCheck, Verdict
from cdp.plan.plan import Document, plan_for
from cdp.plan.schema import Steps, Validator, compile_schema, find_named
from cdp.plan.violations import Finding, find_violations, remove_violations
from cdp.runtime.error_answers import make_pointer

PlanMode = Literal["observe", "flag", "omit", "block"]
MODES: tuple[str, ...] = get_args(PlanMode)

UNPLANNED_EVENT = "unplanned_event"
PLAN_VIOLATION = "plan_violation"
UNPLANNED_PROPERTY = "unplanned_property"
REASONS = (UNPLANNED_EVENT, PLAN_VIOLATION, UNPLANNED_PROPERTY)

_MOST_NAMED = 3
_MEMBER = {"identify": "traits", "group": "traits"}
_SCHEMA = {"identify": "traits", "group": "group_traits", "page": "page", "screen": "screen"}


@dataclass(frozen=True, slots=True)
class CheckedBody:
    """What a call is about, as the plan has it."""

    validator: Validator | None = None
    named: frozenset[str] | None = None
    """The properties it names; ``None`` when it says what is to be of others."""
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A plan for one source, ready to check with."""

    version: int
    events: Mapping[str, CheckedBody] = field(default_factory=dict)
    bodies: Mapping[str, CheckedBody] = field(default_factory=dict)
    """By type of call, for those that are no track calls."""


def prepare_plan(document: Document, source_id: str) -> CheckedPlan:
    """Compile what ``document`` plans for a source. The schemas must have been checked."""
    part = plan_for(document, source_id)
    return CheckedPlan(
        document["version"],
        {
            name: _prepare(event.get("properties"), is_enabled=event.get("enabled", True))
            for name, event in part["events"].items()
        },
        {kind: _prepare(part[name]) for kind, name in _SCHEMA.items() if name in part},
    )


def _prepare(schema: dict[str, Any] | None, *, is_enabled: bool = True) -> CheckedBody:
    if schema is None:
        return CheckedBody(is_enabled=is_enabled)
    return CheckedBody(compile_schema(schema), find_named(schema), is_enabled)


def make_check(plan: CheckedPlan, mode: PlanMode) -> EventCheck | None:
    """Return the check of events under ``plan``; ``None`` when there is nothing to check."""
    if mode == "observe" or not plan.version:
        return None

    def check(event: dict[str, Any]) -> Verdict | None:
        return check_event(event, plan, mode)

    return check


def check_event(event: dict[str, Any], plan: CheckedPlan, mode: PlanMode) -> Verdict | None:
    """Return the verdict on ``event``, which is left as it is; ``None``: nothing to say."""
    kind = str(event.get("type"))
    if kind == "track":
        body = plan.events.get(_name_of(event))
        if body is None or not body.is_enabled:
            return _judge_unplanned(event, plan, mode, is_disabled=body is not None)
    else:
        body = plan.bodies.get(kind)
    if body is None or body.validator is None:
        return None
    member = _MEMBER.get(kind, "properties")
    value = _read_body(event, kind, member)
    if body.validator.is_valid(value):
        unplanned = _find_unplanned(body, value)
        if not unplanned:
            return None
        findings: list[Finding] = []
    else:
        findings = find_violations(body.validator, value)
        unplanned = _find_unplanned(body, value)
    if mode == "block" and findings:
        return _refuse(findings, member)
    removed: list[Steps] = []
    if mode == "omit":
        removed = [(name,) for name in unplanned]
        for name in unplanned:
            del value[name]
        removed += remove_violations(body.validator, value)
    return _mark(plan, member, findings, unplanned, removed, event)


def _name_of(event: dict[str, Any]) -> str:
    name = event.get("event")
    return name if isinstance(name, str) else ""


def _read_body(event: dict[str, Any], kind: str, member: str) -> dict[str, Any]:
    """Return what a call is about, as the worker will read it: an object of its own."""
    value = event.get(member)
    own = dict(value) if isinstance(value, dict) else {}
    if kind != "identify":
        return own
    context = event.get("context")
    shared = context.get("traits") if isinstance(context, dict) else None
    return {**shared, **own} if isinstance(shared, dict) else own


def _find_unplanned(body: CheckedBody, value: dict[str, Any]) -> list[str]:
    if body.named is None:
        return []
    return [name for name in value if name not in body.named]


def _judge_unplanned(
    event: dict[str, Any], plan: CheckedPlan, mode: PlanMode, *, is_disabled: bool
) -> Verdict:
    if mode != "block":
        return Verdict(flags=(UNPLANNED_EVENT,), mark={"version": plan.version})
    name = _name_of(event)
    what = f"disables the event {name!r}" if is_disabled else f"has no event {name!r}"
    return Verdict(UNPLANNED_EVENT, f"the tracking plan {what}")


def _refuse(findings: list[Finding], member: str) -> Verdict:
    told = "; ".join(
        f"{make_pointer((member, *one.steps))}: {one.message}" for one in findings[:_MOST_NAMED]
    )
    more = len(findings) - _MOST_NAMED
    rest = f"; and {more} more" if more > 0 else ""
    return Verdict(PLAN_VIOLATION, f"against the tracking plan: {told}{rest}")


def _mark(
    plan: CheckedPlan,
    member: str,
    findings: list[Finding],
    unplanned: list[str],
    removed: list[Steps],
    event: dict[str, Any],
) -> Verdict:
    flags = (PLAN_VIOLATION,) * bool(findings) + (UNPLANNED_PROPERTY,) * bool(unplanned)
    mark: dict[str, Any] = {"version": plan.version}
    if findings:
        mark["violations"] = [
            {"path": make_pointer((member, *one.steps)), "rule": one.rule} for one in findings
        ]
    if unplanned:
        mark["unplanned"] = [make_pointer((member, name)) for name in unplanned[:20]]
    if removed:
        mark["removed"] = [make_pointer((member, *steps)) for steps in removed[:20]]
        mark["removed_count"] = len(removed)
    places = _list_removals(event, member, removed)
    return Verdict(flags=flags, mark=mark, removed=places)


def _list_removals(
    event: dict[str, Any], member: str, removed: list[Steps]
) -> tuple[tuple[str | int, ...], ...]:
    """Traits of an identify call may stand in two places, and go from both."""
    within: list[Steps] = [(member,)]
    if event.get("type") == "identify":
        within.append(("context", "traits"))
    return tuple((*place, *steps) for place in within for steps in removed)
