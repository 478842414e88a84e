"""Sequences as DuckDB relations: step by step, the events at which the steps so far can end."""

from __future__ import annotations

from cdp.segments.compile_events import matching_events
from cdp.segments.compile_members import Members, as_members
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters
from cdp.segments.rules import Duration, Sequence, Step, Window
from cdp.segments.times import exact_length, months_of


def sequence_members(rule: Sequence, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles for which some choice of events fits the sequence."""
    ends = _times(rule.steps[0], rule.within, scope, parameters)
    for step in rule.steps[1:]:
        ends = _next_ends(ends, step, rule.within, scope, parameters)
    return as_members(f"SELECT DISTINCT profile_no FROM ({ends})")


def _times(step: Step, within: Window | None, scope: Scope, parameters: Parameters) -> str:
    events = step.events
    rows = matching_events(type(events)(events.name, events.where, within), scope, parameters)
    return f'SELECT DISTINCT profile_no, "at" FROM ({rows})'


def _next_ends(
    ends: str, step: Step, within: Window | None, scope: Scope, parameters: Parameters
) -> str:
    """Return the times of the step's events that have a fitting end before them.

    The latest end that leaves the minimal gap is the best choice: if its gap is too long, so is
    that of every earlier one. That is what an ASOF join finds.
    """
    has_minimum = step.min is not None and step.min.amount > 0
    until = _stepped_back(step.min, parameters) if has_minimum and step.min else 'n."at"'
    sign = ">=" if has_minimum else ">"
    found = (
        f'SELECT n.profile_no, n."at", p."at" AS before '
        f'FROM (SELECT profile_no, "at", {until} AS reach '
        f"FROM ({_times(step, within, scope, parameters)}) n) n "
        f'ASOF JOIN ({ends}) p ON n.profile_no = p.profile_no AND n.reach {sign} p."at"'
    )
    if step.max is None:
        return f'SELECT profile_no, "at" FROM ({found})'
    earliest = _stepped_back(step.max, parameters)
    return f'SELECT n.profile_no, n."at" FROM ({found}) n WHERE n.before >= {earliest}'


def _stepped_back(duration: Duration, parameters: Parameters) -> str:
    length = exact_length(duration)
    if length is None:
        return f'n."at" - to_months({parameters.add(months_of(duration), "INTEGER")})'
    microseconds = int(length.total_seconds()) * 1_000_000
    return f'n."at" - to_microseconds({parameters.add(microseconds, "BIGINT")})'
