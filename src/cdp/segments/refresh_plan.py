"""Which segments and tags to evaluate, for whom, and what to call the cause. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cdp.segments.definitions import (
    Definition,
    UnitName,
    depends_on_time,
    find_dependencies,
    order_units,
)

Cause = Literal["event", "time", "merge", "definition", "privacy"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One unit to evaluate."""

    definition: Definition
    whole: bool
    """For everybody; otherwise only for touched profiles and those that a dependency changed."""
    cause: Cause
    """Why somebody's answer changes when nothing about that person says otherwise."""
    dependencies: frozenset[UnitName]


def plan_refresh(
    definitions: Iterable[Definition],
    *,
    any_touched: bool,
    due_for_time: Collection[UnitName] = (),
    all_touched: bool = False,
    skipped: Collection[UnitName] = (),
) -> list[Evaluation]:
    """Return the evaluations of one refresh in dependency order.

    A unit is evaluated for everybody when its definition changed, when ``all_touched`` says that
    nobody knows who was touched, or when it is ``due_for_time``. (A table of the moments at which
    somebody may flip can replace the last of these: those people then count as touched with cause
    ``time``.) Otherwise it is evaluated where something was touched. ``skipped`` units are left
    out. Raises ``graphlib.CycleError`` for a circle of references.
    """
    ordered = order_units(definitions)
    tag_keys = {each.key for each in ordered if each.kind == "tag"}
    plan: list[Evaluation] = []
    planned: set[UnitName] = set()
    for definition in ordered:
        if definition.name in skipped:
            continue
        dependencies = frozenset(find_dependencies(definition, tag_keys))
        cause = _cause_of_whole(
            definition, is_due=definition.name in due_for_time, all_touched=all_touched
        )
        if cause is not None or any_touched or planned & dependencies:
            plan.append(Evaluation(definition, cause is not None, cause or "event", dependencies))
            planned.add(definition.name)
    return plan


def find_due_for_time(
    definitions: Iterable[Definition],
    evaluated_at: Mapping[UnitName, datetime],
    now: datetime,
    interval: timedelta,
) -> list[UnitName]:
    """Return the units that move with time and were last evaluated for everybody at least

    ``interval`` before ``now``, or never: the longest ago first.
    """
    never = now - 2 * interval
    due = [
        (evaluated_at.get(definition.name, never), definition.name)
        for definition in definitions
        if depends_on_time(definition.document)
    ]
    return [name for at, name in sorted(due) if now - at >= interval]


def _cause_of_whole(definition: Definition, *, is_due: bool, all_touched: bool) -> Cause | None:
    if definition.is_behind:
        return "definition"
    if all_touched:
        return "event"
    return "time" if is_due else None
