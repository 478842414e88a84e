"""What holds for every population: ties, order, monotony, totality."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.segments.builtins import health, lifecycle, value_tier
from cdp.segments.builtins.cuts import quantile_cuts, score_by_cuts
from cdp.segments.builtins.definition import ReadContext
from cdp.segments.builtins.settings import SettingsReader

AMOUNTS = st.lists(st.integers(-1000, 10**9), min_size=1, max_size=60)
BINS = st.integers(2, 10)
PART = st.one_of(st.none(), st.floats(0, 100))
FEW = settings(max_examples=60, deadline=None)


@FEW
@given(AMOUNTS, BINS, st.booleans())
def test_a_score_depends_on_the_value_alone(amounts: list[int], bins: int, reverse: bool) -> None:
    values = np.array(amounts, dtype=float)
    scores = score_by_cuts(values, quantile_cuts(values, bins), small_is_best=reverse)
    assert scores.min() >= 1
    assert scores.max() <= bins
    by_value = dict(zip(amounts, scores.tolist(), strict=True))
    assert [by_value[amount] for amount in amounts] == scores.tolist()
    shuffled = sorted(amounts)
    again = np.array(shuffled, dtype=float)
    resorted = score_by_cuts(again, quantile_cuts(again, bins), small_is_best=reverse).tolist()
    assert resorted == [by_value[amount] for amount in shuffled]
    assert resorted == sorted(resorted, reverse=reverse)


@FEW
@given(AMOUNTS)
def test_a_higher_revenue_is_never_in_a_lower_tier(amounts: list[int]) -> None:
    read = value_tier.read_settings(SettingsReader({}, ""))
    revenue = np.sort(np.array(amounts, dtype=float))
    thresholds = value_tier.find_thresholds(read, revenue)
    names = [tier.name for tier in read.tiers]
    placed = [names.index(name) for name in value_tier.place_in_tiers(read, thresholds, revenue)]
    assert placed == sorted(placed, reverse=True)


@FEW
@given(
    st.lists(st.tuples(PART, st.floats(0.01, 100)), min_size=1, max_size=6),
    st.integers(0, 5),
    st.floats(0, 100),
)
def test_health_rises_with_each_of_its_parts(
    parts: list[tuple[float | None, float]], which: int, more: float
) -> None:
    which %= len(parts)
    row = np.array([np.nan if part is None else part for part, _ in parts])
    weights = np.array([weight for _, weight in parts])
    scores, coverage = health.score(row[None, :], weights)
    if np.isnan(row[which]):
        return
    better = row.copy()
    better[which] = max(row[which], more)
    improved, same = health.score(better[None, :], weights)
    assert improved[0] >= scores[0]
    assert same[0] == coverage[0]
    assert 0 <= scores[0] <= 100
    assert 0 <= coverage[0] <= 1


@FEW
@given(
    st.booleans(),
    st.integers(0, 20),
    st.floats(0, 1000),
    st.one_of(st.just(float("nan")), st.floats(1, 1000)),
)
def test_every_history_has_one_stage(known: bool, orders: int, since: float, gap: float) -> None:
    read = lifecycle.read_settings(SettingsReader({}, ""), ReadContext())
    place = lifecycle.place_by_orders(
        read,
        np.array([known]),
        np.array([float(orders)]),
        np.array([since if orders else np.nan]),
        np.array([gap if orders > 1 else np.nan]),
    )
    assert lifecycle.DEFAULT_STAGES[place[0]]
    assert (place[0] < 2) == (orders == 0)


@FEW
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=30))
def test_growth_balances_in_every_interval(active: set[tuple[int, int]]) -> None:
    person, interval = (np.array(column) for column in zip(*sorted(active), strict=True))
    rows = lifecycle.count_intervals(person, interval, 7)
    before = 0
    for row in rows:
        assert row["active"] == before - row["dormant"] + row["new"] + row["resurrecting"]
        assert min(row.values()) >= 0
        before = row["active"]
    assert sum(row["new"] for row in rows) == len(set(person.tolist()))
