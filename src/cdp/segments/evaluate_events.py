"""Events in the reference meaning: which ones count, figures over them, sequences of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from cdp.segments.evaluate_values import Search, as_double, is_number, value_holds
from cdp.segments.paths import elements, value_at
from cdp.segments.rules import (
    ELAPSED_FUNCTIONS,
    EventFigure,
    Events,
    Function,
    Sequence,
    Step,
    Window,
)
from cdp.segments.times import step_back
from cdp.segments.windows import bounds

LARGEST_EXACT = 1e18
_NANO = Decimal("1e-9")


class EventFact(NamedTuple):
    """One track, page or screen call of a person; ``name`` is the event's name or the call."""

    name: str
    at: datetime
    message_id: str
    source: str = ""
    properties: Mapping[str, Any] = {}

    @property
    def place(self) -> tuple[datetime, str, str]:
        """Its place among the person's events: by time, then message id."""
        return (self.at, self.message_id, self.source)


@dataclass(frozen=True, slots=True)
class Moment:
    """The instant of an evaluation, the zone of calendar windows, and the RE2 engine."""

    now: datetime
    timezone: str
    search: Search = field(compare=False)


def matching_events(events: Events, facts: Iterable[EventFact], moment: Moment) -> list[EventFact]:
    """Return the facts that ``events`` means, in time order."""
    stretch = bounds(events.within, moment.now, moment.timezone)
    found = [
        fact
        for fact in facts
        if fact.name == events.name
        and stretch.contain(fact.at)
        and all(
            value_holds(
                value_at(fact.properties, condition.path),
                condition.comparison,
                moment.now,
                moment.search,
            )
            for condition in events.where
        )
    ]
    return sorted(found, key=lambda fact: fact.place)


def figure_of(rule: EventFigure, facts: Iterable[EventFact], moment: Moment) -> object:
    """Return the figure over events as a JSON value, ``None`` when absent."""
    assert isinstance(rule.events, Events)
    found = matching_events(rule.events, facts, moment)
    if rule.function in ELAPSED_FUNCTIONS:
        return elapsed_days(rule.function, [fact.at for fact in found], moment)
    values = [value_at(fact.properties, rule.path) for fact in found]
    return fold_values(rule.function, [value for value in values if value is not None])


def elapsed_days(function: Function, times: list[datetime], moment: Moment) -> int | None:
    """Return the whole days since the last or the first of ``times``, which are in order."""
    if not times:
        return None
    time = times[-1 if function == "days_since_last" else 0]
    return (moment.now - time) // timedelta(days=1)


def fold_values(function: Function, values: list[object]) -> object:
    """Return the figure over the property's values, one per event that has it, in time order."""
    if function == "first":
        return values[0] if values else None
    if function == "last":
        return values[-1] if values else None
    if function == "most_frequent":
        return _most_frequent(values)
    scalars = [item for value in values for item in elements(value)]
    if function == "count_distinct":
        return len({_key(item) for item in scalars if _is_scalar(item)})
    return _number_figure(function, [item for item in scalars if is_number(item)])


def _number_figure(function: Function, numbers: list[float]) -> float | None:
    if not numbers:
        return None
    match function:
        case "min":
            return min(as_double(number) for number in numbers)
        case "max":
            return max(as_double(number) for number in numbers)
        case "sum":
            return exact_sum(numbers)
        case _:
            return exact_sum(numbers) / len(numbers)


def exact_sum(numbers: list[float]) -> float:
    """Return the sum of the numbers as decimals with nine places, so that order never matters.

    Numbers of 1e18 and more are added as doubles.
    """
    small = [number for number in numbers if abs(as_double(number)) < LARGEST_EXACT]
    large = [as_double(n) for n in numbers if abs(as_double(n)) >= LARGEST_EXACT]
    decimals = (Decimal(repr(number)).quantize(_NANO, ROUND_HALF_UP) for number in small)
    return float(sum(decimals, Decimal(0))) + math.fsum(large)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, bool)) or is_number(value)


def _key(value: object) -> tuple[str, object]:
    """Return what makes two scalars the same: their type and value."""
    plain = as_double(value) if is_number(value) else value
    return (type(plain).__name__, plain)


def _most_frequent(values: list[object]) -> object:
    events: dict[tuple[str, object], int] = {}
    seen: dict[tuple[str, object], tuple[int, int]] = {}
    for order, value in enumerate(values):
        keys = [_key(item) if _is_scalar(item) else None for item in _positions(value)]
        for key in {key for key in keys if key is not None}:
            events[key] = events.get(key, 0) + 1
        for position, key_at in enumerate(keys):
            if key_at is not None:
                seen[key_at] = (order, position)
    if not events:
        return None
    return max(events, key=lambda key: (events[key], seen[key]))[1]


def _positions(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def sequence_times(
    rule: Sequence, facts: Iterable[EventFact], moment: Moment
) -> list[datetime] | None:
    """Return the times of one choice of events that fits, ``None`` when none does."""
    known = list(facts)
    chains = [[time] for time in _step_times(rule.steps[0], rule.within, known, moment)]
    for step in rule.steps[1:]:
        times = _step_times(step, rule.within, known, moment)
        # One chain per end is enough: what follows depends on the last event alone.
        following = {
            time: [*chain, time]
            for time in times
            for chain in chains
            if _fits(step, chain[-1], time)
        }
        chains = list(following.values())
    return chains[0] if chains else None


def _step_times(
    step: Step, within: Window | None, facts: list[EventFact], moment: Moment
) -> list[datetime]:
    events = Events(step.events.name, step.events.where, within)
    return sorted({fact.at for fact in matching_events(events, facts, moment)})


def _fits(step: Step, before: datetime, time: datetime) -> bool:
    if before >= time:
        return False
    late_enough = step.min is None or before <= step_back(time, step.min)
    soon_enough = step.max is None or before >= step_back(time, step.max)
    return late_enough and soon_enough
