"""A history as lines in one order: joins, refusals, and what happened to profiles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cdp.identity.explain_store import Step

Place = tuple[datetime, bool, str]
"""Where a line stands: its time, joins and refusals first, and what tells it from others."""


class Line(NamedTuple):
    """A line of a history: a step, or a change of profiles with its details."""

    place: Place
    told: Step | Mapping[str, Any]


def order_history(steps: Iterable[Step], changes: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return the lines of a history, oldest first."""
    lines = [
        Line(
            (step.at, False, f"{step.rule} {step.strong} {step.weak} {step.evidence.message_id}"),
            step,
        )
        for step in steps
    ]
    # What happened at one moment keeps its order.
    lines += [
        Line((change["at"], True, f"{number:09}"), change) for number, change in enumerate(changes)
    ]
    return sorted(lines, key=lambda line: line.place)
