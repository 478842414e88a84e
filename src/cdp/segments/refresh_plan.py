"""Which segments and tags to evaluate, for whom, and what to call the cause. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
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
    time_is_due: bool,
    all_touched: bool = False,
    skipped: Collection[UnitName] = (),
) -> list[Evaluation]:
    """Return the evaluations of one refresh in dependency order.

    A unit is evaluated for everybody when its definition changed, when ``all_touched`` says that
    nobody knows who was touched, or when ``time_is_due`` and its rule moves with time. (A table of
    the moments at which somebody may flip can replace the last of these: those people then count
    as touched with cause ``time``.) Otherwise it is evaluated where something was touched.
    ``skipped`` units are left out. Raises ``graphlib.CycleError`` for a circle of references.
    """
    ordered = order_units(definitions)
    tag_keys = {each.key for each in ordered if each.kind == "tag"}
    plan: list[Evaluation] = []
    planned: set[UnitName] = set()
    for definition in ordered:
        if definition.name in skipped:
            continue
        dependencies = frozenset(find_dependencies(definition, tag_keys))
        cause = _cause_of_whole(definition, time_is_due=time_is_due, all_touched=all_touched)
        if cause is not None or any_touched or planned & dependencies:
            plan.append(Evaluation(definition, cause is not None, cause or "event", dependencies))
            planned.add(definition.name)
    return plan


def _cause_of_whole(
    definition: Definition, *, time_is_due: bool, all_touched: bool
) -> Cause | None:
    if definition.is_behind:
        return "definition"
    if all_touched:
        return "event"
    if time_is_due and depends_on_time(definition.document):
        return "time"
    return None
