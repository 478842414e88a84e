"""Lifecycle stages: rules in a firm's own words, or a function of the orders and the clock. Pure.

Stages are total and disjoint: the first that fits is the one, and the last takes everybody else.
Two people who become one have the stage of their joint history, never the higher of two stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdp.segments.builtins.clv_model import count_days
from cdp.segments.builtins.definition import ReadContext
from cdp.segments.builtins.figures import Flags, Numbers, Whole
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.rules import Rule

MOST_STAGES = 50
OTHERS = "other"
DEFAULT_STAGES = (
    "visitor", "lead", "customer", "repeat", "loyal", "won_back", "at_risk", "lapsed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    document: Any
    """The rule; ``None``: everybody who is left."""


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    stages: tuple[Stage, ...]
    """Empty: the default stages."""
    at_risk_days: float
    lapsed_days: float
    loyal_orders: int
    zero_value_orders: bool
    rules: tuple[Rule, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the stages in order."""
        return tuple(each.name for each in self.stages) or DEFAULT_STAGES


def read_settings(reader: SettingsReader, context: ReadContext) -> LifecycleSettings:
    """Read the settings of ``lifecycle``."""
    rules: list[Rule] = []

    def read(document: Any, path: str) -> Stage:
        stage = SettingsReader(document, path)
        name = stage.text("name")
        if name is None:
            raise stage.refuse("name", "a stage has a name", "missing_part")
        rule = stage.raw("when")
        if rule is not None:
            rules.append(context.read_rule(rule, stage.at("when")))
        stage.finish()
        return Stage(name, rule)

    stages = reader.each("stages", read, most=MOST_STAGES) or []
    reader.show("stages", [{"name": name} for name in DEFAULT_STAGES])
    others = reader.text("else")
    if stages and stages[-1].document is not None:
        stages.append(Stage(others or OTHERS, None))
        reader.show("else", OTHERS)
    elif others is not None:
        message = "else names those of whom no stage's rule holds; the last stage does already"
        raise reader.refuse("else", message)
    if any(each.document is None for each in stages[:-1]):
        raise reader.refuse("stages", "every stage but the last has a rule, `when`")
    if len({each.name for each in stages}) < len(stages):
        raise reader.refuse("stages", "stages have different names")
    at_risk, lapsed = (
        reader.duration("at_risk_after", "90d"), reader.duration("lapsed_after", "180d"),
    )  # fmt: skip
    assert at_risk is not None
    assert lapsed is not None
    if count_days(at_risk) > count_days(lapsed):
        raise reader.refuse("lapsed_after", "somebody is at risk before they lapse")
    loyal = reader.whole("loyal_orders", 5, low=3, high=10**6)
    zero = reader.flag("zero_value_orders")
    reader.finish()
    return LifecycleSettings(
        tuple(stages), count_days(at_risk), count_days(lapsed), loyal, zero, tuple(rules)
    )


def place_by_orders(
    settings: LifecycleSettings,
    is_known: Flags,
    orders: Numbers,
    days_since: Numbers,
    last_gap: Numbers,
) -> Whole:
    """Return the place of each person's stage among ``DEFAULT_STAGES``.

    ``is_known``: has an identifier other than a device; ``days_since`` the last order and
    ``last_gap``, days between the last two, are NaN where there are none.
    """
    since, gap = np.nan_to_num(days_since), np.nan_to_num(last_gap)
    found = np.select(
        [
            (orders == 0) & ~is_known,
            orders == 0,
            since > settings.lapsed_days,
            since > settings.at_risk_days,
            gap > settings.lapsed_days,
            orders >= settings.loyal_orders,
            orders >= 2,
        ],
        [0, 1, 7, 6, 5, 4, 3],
        default=2,
    )
    return np.asarray(found, dtype=np.int64)


def summarise(
    names: tuple[str, ...], place: Whole, orders: Numbers, revenue: Numbers
) -> dict[str, Any]:
    """Return, per stage, people, orders, revenue (minor units) and conversion: of those who have

    come as far as the stage, the share that has gone further.
    """
    counts = np.bincount(place, minlength=len(names))
    placed_orders = np.bincount(place, weights=orders, minlength=len(names))
    placed_revenue = np.bincount(place, weights=revenue, minlength=len(names))
    reached = np.cumsum(counts[::-1])[::-1]
    stages = []
    for index, name in enumerate(names):
        beyond = int(reached[index + 1]) if index + 1 < len(names) else 0
        bought, earned = int(placed_orders[index]), round(float(placed_revenue[index]))
        stages.append(
            {
                "name": name,
                "people": int(counts[index]),
                "share": int(counts[index]) / len(place) if len(place) else None,
                "orders": bought,
                "revenue": earned,
                "average_order_value": earned / bought if bought else None,
                "conversion": beyond / int(reached[index]) if reached[index] else None,
            }
        )
    return {"people": len(place), "stages": stages}


def count_intervals(person: Whole, interval: Whole, last: int) -> list[dict[str, int]]:
    """Return, per interval up to ``last``, how many were active, new, returning, resurrecting and

    dormant, from distinct pairs of person and interval.

    active(t) = active(t - 1) - dormant(t) + new(t) + resurrecting(t).
    """
    if not len(person):
        return []
    order = np.lexsort((interval, person))
    person, interval = person[order], interval[order]
    is_first = np.ones(len(person), dtype=bool)
    is_first[1:] = person[1:] != person[:-1]
    before = np.zeros(len(person), dtype=np.int64)
    before[1:] = interval[:-1]
    follows = ~is_first & (before == interval - 1)
    first = int(interval.min())
    size = last - first + 1

    def count(which: Flags) -> NDArray[np.int64]:
        return np.bincount(interval[which] - first, minlength=size)[:size]

    active, new, returning = (
        count(np.ones(len(person), dtype=bool)),
        count(is_first),
        count(follows),
    )
    rows = []
    for t in range(size):
        earlier = int(active[t - 1]) if t else 0
        rows.append(
            {
                "interval": first + t,
                "active": int(active[t]),
                "new": int(new[t]),
                "returning": int(returning[t]),
                "resurrecting": int(active[t] - new[t] - returning[t]),
                "dormant": earlier - int(returning[t]),
            }
        )
    return rows
