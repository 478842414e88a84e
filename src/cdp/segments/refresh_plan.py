"""Which segments and tags to evaluate, for whom, and what to call the cause. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from cdp.segments.definitions import (
    Definition,
    UnitName,
    find_dependencies,
    order_units,
)

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
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
    crossings: frozenset[str] = frozenset()
    """Those by which time alone may have changed somebody's answer."""


def plan_refresh(
    definitions: Iterable[Definition],
    *,
    any_touched: bool,
    due_for_time: Collection[UnitName] = (),
    crossed: Mapping[UnitName, frozenset[str]] | None = None,
    all_touched: bool = False,
    skipped: Collection[UnitName] = (),
) -> list[Evaluation]:
    """Return the evaluations of one refresh in dependency order.

    A unit is evaluated for everybody when its definition changed, when ``all_touched`` says that
    nobody knows who was touched, or when it is ``due_for_time``. Otherwise it is evaluated where
    something was touched, and for whom time alone may have changed it: ``crossed`` names the
    crossings of such units. ``skipped`` units are left out. Raises ``graphlib.CycleError`` for a
    circle of references.
    """
    crossed = crossed or {}
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
        crossings = crossed.get(definition.name, frozenset())
        if cause is not None or any_touched or crossings or planned & dependencies:
            plan.append(
                Evaluation(definition, cause is not None, cause or "event", dependencies, crossings)
            )
            planned.add(definition.name)
    return plan


def share_crossings(plan: Iterable[Evaluation]) -> list[Evaluation]:
    """Let the segments of ``plan`` be asked of everybody whom time may have moved in any of them.

    Whom it has not moved keeps his answer, and segments that ask the same people are settled
    together. Those that refer to others ask people of their own anyway.
    """
    evaluations = list(plan)
    asked = [each for each in evaluations if _can_share(each)]
    shared = frozenset[str]().union(*(each.crossings for each in asked))
    return [replace(each, crossings=shared) if _can_share(each) else each for each in evaluations]


def _can_share(evaluation: Evaluation) -> bool:
    return (
        evaluation.definition.kind == "segment"
        and not evaluation.whole
        and not evaluation.dependencies
    )


def find_due_for_time(
    names: Iterable[UnitName],
    evaluated_at: Mapping[UnitName, datetime],
    now: datetime,
    find_interval: Callable[[UnitName], timedelta],
) -> list[UnitName]:
    """Return those of ``names`` that were last evaluated for everybody at least their interval

    before ``now``, or never: the longest ago first.
    """
    due = [
        (evaluated_at.get(name, EARLIEST), name)
        for name in names
        if now - evaluated_at.get(name, EARLIEST) >= find_interval(name)
    ]
    return [name for _, name in sorted(due)]


def _cause_of_whole(definition: Definition, *, is_due: bool, all_touched: bool) -> Cause | None:
    if definition.is_behind:
        return "definition"
    if all_touched:
        return "event"
    return "time" if is_due else None
