"""The formulas of built-in tags, case by case."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from cdp.errors import Unprocessable
from cdp.segments.builtins import (
    churn_contract,
    churn_gap,
    clv_model,
    clv_simple,
    cross_sell,
    engagement,
    health,
    lifecycle,
    nps,
    rfm,
    rfm_groups,
    value_tier,
)
from cdp.segments.builtins.cuts import quantile_cuts, score_by_cuts
from cdp.segments.builtins.definition import ReadContext
from cdp.segments.builtins.registry import KINDS, read_built_in
from cdp.segments.builtins.schedule import News, Schedule
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.definitions import Definition
from tests.support.people import NOON

CONTEXT = ReadContext(segments=set(), tags={"nps"})


def column(*values: float) -> Any:
    return np.array(values, dtype=float)


def reader(settings: dict[str, Any]) -> SettingsReader:
    return SettingsReader(settings, "/definition/settings")


def scored(settings: dict[str, Any], **figures: Any) -> rfm.Scores:
    read = rfm.read_settings(reader(settings))
    return rfm.score_customers(read, rfm.find_cuts(read, figures), figures, len(figures["recency"]))


# ── Cuts and RFM ────────────────────────────────────────────────────────────────────────────────


def test_quantiles_are_type_seven() -> None:
    assert quantile_cuts(column(1, 2, 3, 4), 5) == pytest.approx([1.6, 2.2, 2.8, 3.4])


def test_equal_values_share_a_score_and_groups_are_unequal() -> None:
    values = column(1, 1, 1, 1, 1, 1, 2, 3, 6, 9)
    scores = score_by_cuts(values, quantile_cuts(values, 5))
    assert scores.tolist() == [1, 1, 1, 1, 1, 1, 4, 4, 5, 5]


def test_a_value_at_a_cut_is_below_it() -> None:
    assert score_by_cuts(column(10, 10.01), [10, 20]).tolist() == [1, 2]


def test_a_small_recency_is_the_best() -> None:
    scores = score_by_cuts(column(0, 10, 11, 500), [10, 20, 30, 40], small_is_best=True)
    assert scores.tolist() == [5, 5, 4, 1]


def test_fewer_distinct_values_than_bins_give_fewer_scores() -> None:
    found = scored({}, recency=column(3, 3), frequency=column(1, 1), monetary=column(5, 9))
    assert found.f.tolist() == [1, 1]
    assert found.m.tolist() == [1, 5]


def test_somebody_alone_has_the_middle_score() -> None:
    found = scored({}, recency=column(3), frequency=column(9), monetary=column(5))
    assert (found.r[0], found.f[0], found.m[0]) == (3, 3, 3)


def test_somebody_alone_is_scored_by_given_cuts() -> None:
    cuts = {"recency": [1, 2, 3, 4], "frequency": [1, 2, 3, 4], "monetary": [1, 2, 3, 4]}
    found = scored({"cuts": cuts}, recency=column(0), frequency=column(9), monetary=column(1))
    assert (found.r[0], found.f[0], found.m[0]) == (5, 5, 1)


def test_a_population_below_twenty_five_is_small() -> None:
    for size, is_small in ((24, True), (25, False)):
        figures = {name: np.arange(size, dtype=float) for name in rfm.FIGURES}
        settings = rfm.read_settings(reader({}))
        cuts = rfm.find_cuts(settings, figures)
        scores = rfm.score_customers(settings, cuts, figures, size)
        assert rfm.summarise(settings, cuts, scores)["small_population"] is is_small


def test_the_first_group_that_fits_wins_and_the_last_takes_all() -> None:
    groups = [
        {"name": "top", "r": [4, 5], "f": [4, 5], "m": [1, 5]},
        {"name": "fresh", "r": 5},
        {"name": "rest", "r": [5, 5]},
    ]
    read, _ = rfm_groups.read_groups(reader({"groups": groups}))
    r, f, m = (np.array(s) for s in ((5, 5, 1), (5, 1, 1), (1, 1, 1)))
    assert rfm_groups.place_in_groups(read, r, f, m).tolist() == ["top", "fresh", "rest"]


@pytest.mark.parametrize("preset", ["four", "ten"])
def test_every_group_of_a_preset_can_be_reached(preset: str) -> None:
    table = rfm_groups.PRESETS[preset]
    r, f, m = (each.ravel() for each in np.meshgrid(*[np.arange(1, 6)] * 3))
    placed = set(rfm_groups.place_in_groups(table, r, f, m).tolist())
    assert placed == {group.name for group in table}
    assert len(table) == {"four": 4, "ten": 10}[preset]
    recent = rfm_groups.place_in_groups(table, r, f, m)[r >= 3]
    assert not set(recent.tolist()) & {"lost", "at_risk", "cannot_lose"}


def test_a_preset_reads_scores_of_other_bins_on_its_own_scale() -> None:
    assert rfm_groups.to_fifths(np.array([1, 2, 3]), 3).tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"bins": 1}, "/bins"),
        ({"bins": "five"}, "/bins"),
        ({"cuts": "equal"}, "/cuts"),
        ({"cuts": {"recency": [3, 2]}}, "/cuts/recency"),
        ({"bins": 5, "cuts": {"recency": [1]}}, "/cuts/recency"),
        ({"groups": "seven"}, "/groups"),
        ({"groups": []}, "/groups"),
        ({"groups": [{"r": [1, 2]}]}, "/groups/0/name"),
        ({"groups": [{"name": "a", "r": [2, 1]}]}, "/groups/0/r"),
        ({"colour": 1}, "/colour"),
    ],
)
def test_a_wrong_setting_is_refused_at_its_place(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        read_built_in({"builtin": "rfm", "settings": settings}, CONTEXT)
    assert refused.value.details["path"] == f"/definition/settings{path}"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_setting_that_nobody_knows_is_refused(name: str) -> None:
    needed: dict[str, Any] = {
        "health": {"components": [{"trait": "usage", "weight": 1}]},
    }.get(name, {})
    with pytest.raises(Unprocessable) as refused:
        read_built_in({"builtin": name, "settings": {**needed, "xyzzy": 1}}, CONTEXT)
    assert refused.value.details["path"] == "/definition/settings/xyzzy"


def test_an_as_of_that_is_no_time_is_refused() -> None:
    with pytest.raises(Unprocessable) as refused:
        read_built_in({"builtin": "rfm", "as_of": "soon"}, CONTEXT)
    assert refused.value.details["path"] == "/definition/as_of"


def test_a_condition_on_an_unknown_field_of_orders_is_refused_at_its_place() -> None:
    where = [{"property": "colour", "op": "eq", "value": "red"}]
    with pytest.raises(Unprocessable) as refused:
        read_built_in({"builtin": "rfm", "orders": {"where": where}}, CONTEXT)
    assert refused.value.details["path"] == "/definition/orders/where/0/property"


# ── Value tiers ─────────────────────────────────────────────────────────────────────────────────


def tiers(settings: dict[str, Any], revenue: Any) -> list[str]:
    read = value_tier.read_settings(reader(settings))
    found = value_tier.find_thresholds(read, revenue)
    placed: list[str] = value_tier.place_in_tiers(read, found, revenue).tolist()
    return placed


def test_an_amount_begins_its_tier() -> None:
    given = [{"name": "gold", "min": 1000}, {"name": "silver", "min": 100}, {"name": "none"}]
    assert tiers({"tiers": given}, column(1000, 999, 100, 99)) == [
        "gold",
        "silver",
        "silver",
        "none",
    ]


def test_shares_are_of_customers_and_ties_stay_together() -> None:
    given = [{"name": "top", "share": 0.2}, {"name": "rest"}]
    assert tiers({"tiers": given}, column(1, 2, 3, 4, 5)).count("top") == 1
    assert tiers({"tiers": given}, column(7, 7, 7, 7)) == ["rest"] * 4


# ── NPS ─────────────────────────────────────────────────────────────────────────────────────────


def answered(*scores: int) -> dict[str, Any]:
    counts: dict[int, int] = {}
    for score in scores:
        counts[score] = counts.get(score, 0) + 1
    return nps.summarise(counts)


def test_nps_of_nine_ten_seven_six_is_twenty_five() -> None:
    found = answered(9, 10, 7, 6)
    assert (found["nps"], found["display"]) == (25, 25)
    assert (found["promoters"], found["passives"], found["detractors"]) == (2, 1, 1)


def test_a_zero_is_a_detractor() -> None:
    assert answered(0, 10, 10, 10)["nps"] == 50


def test_only_passives_are_zero() -> None:
    assert answered(7, 8)["nps"] == 0


def test_nps_without_responses_is_null_not_zero() -> None:
    found = answered()
    assert (found["nps"], found["display"], found["margin_of_error"]) == (None, None, None)


def test_the_margin_of_error_is_in_points() -> None:
    found = answered(9, 10, 7, 6)
    expected = 1.96 * math.sqrt(((0.5 + 0.25) - 0.25**2) / 4) * 100
    assert found["margin_of_error"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("number", "shown"), [(0.5, 1), (-0.5, -1), (-0.4, 0), (12.5, 13), (-12.5, -13), (0.0, 0)]
)
def test_halves_are_rounded_away_from_zero(number: float, shown: int) -> None:
    assert nps.round_half_away(number) == shown
    assert str(nps.round_half_away(number)) != "-0"


@pytest.mark.parametrize("value", [-1, 11, 7.5, "9", True, None])
def test_what_is_no_whole_number_from_zero_to_ten_is_rejected(value: Any) -> None:
    assert nps.read_score(value) is None


def test_a_whole_double_is_a_score() -> None:
    assert nps.read_score(9.0) == 9


# ── Customer value ──────────────────────────────────────────────────────────────────────────────


def simple(**settings: Any) -> clv_simple.SimpleSettings:
    return clv_simple.read_settings(reader(settings))


def test_five_percent_a_month_is_twenty_months() -> None:
    assert simple(monthly_churn=0.05).lifetime_years == pytest.approx(20 / 12)
    assert simple(monthly_churn=0.05).yearly_churn == pytest.approx(1 - 0.95**12)


def test_without_churn_the_lifetime_is_capped_and_flagged() -> None:
    settings = simple(annual_churn=0)
    assert settings.lifetime_years == 5
    assert settings.is_capped


def test_full_churn_is_one_year() -> None:
    settings = simple(annual_churn=1)
    assert (settings.lifetime_years, settings.is_capped) == (1, False)


def test_two_rates_of_churn_or_none_are_refused() -> None:
    for settings in ({"annual_churn": 0.1, "monthly_churn": 0.1}, {"gross_margin": 0.5}):
        with pytest.raises(Unprocessable):
            simple(**settings)


def test_a_year_is_not_guessed_from_less_than_ninety_days() -> None:
    found = clv_simple.value_customers(
        simple(annual_churn=0.5, gross_margin=0.5), column(1000, 1000), column(89, 90), None
    )
    assert found.is_short.tolist() == [True, False]
    assert np.isnan(found.yearly_value[0])
    assert found.yearly_value[1] == pytest.approx(1000 * 365 / 90)


def test_gross_is_value_times_margin_times_lifetime_and_net_needs_the_cost() -> None:
    settings = simple(annual_churn=0.25, gross_margin=0.4, cac=500)
    known = clv_simple.value_customers(settings, column(10_000), column(365), 500)
    assert (known.gross[0], known.net[0]) == (16_000, 15_500)
    unknown = clv_simple.value_customers(settings, column(10_000), column(365), None)
    assert np.isnan(unknown.net[0])


def test_without_a_margin_it_is_revenue() -> None:
    flags = clv_simple.list_flags(simple(annual_churn=0.5), np.array([False, True]))
    assert flags == [["revenue_ltv"], ["revenue_ltv", "short_tenure"]]


def test_the_discounted_form_is_margin_times_retention_over_what_is_left() -> None:
    settings = simple(annual_churn=0.2, gross_margin=1, annual_discount=0.1)
    found = clv_simple.value_customers(settings, column(1000), column(365), None)
    assert found.discounted is not None
    assert found.discounted[0] == pytest.approx(1000 * 0.8 / (1 + 0.1 - 0.8))


def test_the_cost_in_another_currency_is_not_known() -> None:
    settings = simple(annual_churn=0.5, cac={"amount": 500, "currency": "EUR"})
    assert clv_simple.find_cac(settings, "CNY") is None
    assert clv_simple.find_cac(settings, "EUR") == 500


def test_the_gate_says_what_is_missing() -> None:
    gate = clv_model.Gate()
    assert gate.find_missing(500, 180, 30, 3) == []
    assert len(gate.find_missing(499, 179, 31, 2)) == 4


def test_a_horizon_is_discounted_month_by_month_and_a_part_at_its_end() -> None:
    value = clv_model.discounted_value(
        lambda end: column(end), column(10), horizon=2.5, month=1, monthly_discount=0.1
    )
    assert value[0] == pytest.approx(10 * (1 / 1.1 + 1 / 1.1**2 + 0.5 / 1.1**2.5))


# ── Churn ───────────────────────────────────────────────────────────────────────────────────────


def test_own_rhythm_counts_from_three_days_of_orders_else_the_population() -> None:
    found = churn_gap.rate_by_gap(column(30, 30), column(10, 10), column(3, 2), 60.0, 2.0)
    assert found.basis.tolist() == ["own_gap", "population_gap"]
    assert found.risk.tolist() == [1.0, 0.5]
    assert found.churned.tolist() == [True, False]


def test_at_the_limit_nobody_has_churned_yet() -> None:
    found = churn_gap.rate_by_gap(column(20), column(10), column(5), 60.0, 2.0)
    assert (found.risk[0], found.churned[0]) == (1.0, False)


def test_who_joined_in_the_period_is_in_neither_number() -> None:
    started, ended = column(0, 0, 15, 15, 0), column(np.nan, 15, np.nan, 18, 5)
    found = churn_contract.count_churn(started, ended, 10, 20)
    assert (found["customers_at_start"], found["left"], found["joined"]) == (2, 1, 2)
    assert (found["churn_rate"], found["retention"]) == (0.5, 0.5)


def test_nobody_at_the_start_is_null() -> None:
    assert churn_contract.count_churn(column(), column(), 0, 1)["churn_rate"] is None


# ── Health ──────────────────────────────────────────────────────────────────────────────────────


def healthy(parts: list[list[float]], weights: list[float]) -> tuple[list[float], list[float]]:
    scores, coverage = health.score(np.array(parts), np.array(weights))
    return scores.tolist(), coverage.tolist()


def test_health_is_the_weighted_mean_of_what_is_there() -> None:
    scores, coverage = healthy([[80, 50, np.nan]], [40, 30, 30])
    assert scores == [pytest.approx((80 * 40 + 50 * 30) / 70, abs=1e-6)]
    assert coverage == [0.7]


def test_too_little_known_is_unknown() -> None:
    components = [{"trait": "a", "weight": 40}, {"trait": "b", "weight": 60}]
    settings = health.read_settings(reader({"components": components}), CONTEXT)
    scores, bands = health.band(column(90, 90), column(0.4, 0.5), settings)
    assert bands.tolist() == ["unknown", "green"]
    assert np.isnan(scores[0])


def test_bands_begin_at_their_numbers() -> None:
    components = [{"trait": "a", "weight": 1}]
    settings = health.read_settings(reader({"components": components}), CONTEXT)
    _, bands = health.band(column(39.9, 40, 69.9, 70), column(1, 1, 1, 1), settings)
    assert bands.tolist() == ["red", "amber", "amber", "green"]


def test_a_range_may_run_downwards_and_is_clipped() -> None:
    assert health.scale(column(0, 5, 10, 12), (10, 0)).tolist() == [100, 50, 0, 0]


@pytest.mark.parametrize(
    ("component", "path"),
    [
        ({"trait": "a"}, "/weight"),
        ({"trait": "a", "weight": 0}, "/weight"),
        ({"tag": "nobody", "weight": 1}, "/tag"),
        ({"weight": 1}, ""),
        ({"event": "x", "count": {"op": "odd", "value": 1}, "weight": 1}, "/count/op"),
    ],
)
def test_a_wrong_component_is_refused_at_its_place(component: Any, path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        health.read_settings(reader({"components": [component]}), CONTEXT)
    assert refused.value.details["path"] == f"/definition/settings/components/0{path}"


# ── Lifecycle ───────────────────────────────────────────────────────────────────────────────────


def stage(is_known: bool, orders: float, since: float = np.nan, gap: float = np.nan) -> str:
    settings = lifecycle.read_settings(reader({}), CONTEXT)
    place = lifecycle.place_by_orders(
        settings, np.array([is_known]), column(orders), column(since), column(gap)
    )
    return lifecycle.DEFAULT_STAGES[place[0]]


def test_each_history_has_its_stage() -> None:
    assert stage(False, 0) == "visitor"
    assert stage(True, 0) == "lead"
    assert stage(True, 1, 5) == "customer"
    assert stage(False, 2, 5, 30) == "repeat"
    assert stage(True, 5, 5, 30) == "loyal"
    assert stage(True, 5, 5, 181) == "won_back"
    assert stage(True, 5, 91, 30) == "at_risk"
    assert stage(True, 5, 181, 200) == "lapsed"


def test_intervals_balance() -> None:
    person, interval = np.array([1, 1, 1, 2, 2, 3]), np.array([0, 1, 3, 0, 3, 1])
    rows = lifecycle.count_intervals(person, interval, 3)
    assert rows[1] == {
        "interval": 1, "active": 2, "new": 1, "returning": 1, "resurrecting": 0, "dormant": 1,
    }  # fmt: skip
    assert (rows[3]["resurrecting"], rows[3]["active"]) == (2, 2)
    for before, row in zip([{"active": 0}, *rows], rows, strict=False):
        balance = before["active"] - row["dormant"] + row["new"] + row["resurrecting"]
        assert row["active"] == balance


def test_stages_without_a_last_for_all_others_get_one() -> None:
    rule = {"trait": "plan", "op": "exists"}
    settings = lifecycle.read_settings(reader({"stages": [{"name": "a", "when": rule}]}), CONTEXT)
    assert settings.names == ("a", "other")


def test_a_stage_in_the_middle_needs_its_rule() -> None:
    with pytest.raises(Unprocessable):
        lifecycle.read_settings(reader({"stages": [{"name": "a"}, {"name": "b"}]}), CONTEXT)


# ── Engagement, cross-selling ───────────────────────────────────────────────────────────────────


def test_engagement_runs_from_nothing_to_a_hundred() -> None:
    settings = engagement.read_settings(reader({}))
    scores = engagement.score(settings, column(np.nan, 0, 15), column(0, 8, 4), column(0, 5, 1))
    assert scores.tolist() == [0, 100, pytest.approx(100 * (0.4 * 0.5 + 0.4 * 0.5 + 0.2 * 0.2))]


def test_support_confidence_and_lift() -> None:
    found = cross_sell.measure(column(10), column(20), column(25), 100)
    assert (found.support[0], found.confidence[0], found.lift[0]) == (0.1, 0.5, 2.0)


# ── When ────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_costly_waits_until_its_share_of_the_time_is_earned() -> None:
    definition = Definition("tag", "rfm", {"builtin": "rfm"}, 1)
    orders, views = News(True, False), News(False, False)
    schedule = Schedule(0.1, "UTC")
    schedule.note([definition], orders, NOON)
    assert schedule.list_due() == [definition.name]
    schedule.pay(definition.name, 5.0, NOON)

    schedule.note([definition], views, NOON + timedelta(seconds=1))
    assert schedule.seconds_to_wait() is None
    schedule.note([definition], orders, NOON + timedelta(seconds=2))
    assert schedule.list_due() == []
    schedule.note([definition], views, NOON + timedelta(seconds=25))
    assert schedule.list_due() == [definition.name]


def test_a_new_day_is_news_unless_the_snapshot_is_fixed() -> None:
    moving = Definition("tag", "rfm", {"builtin": "rfm"}, 1)
    fixed = Definition("tag", "old", {"builtin": "rfm", "as_of": "2026-01-01"}, 1)
    schedule = Schedule(0.1, "UTC")
    nothing = News(False, False, False)
    schedule.note([moving, fixed], nothing, NOON)
    for definition in (moving, fixed):
        schedule.pay(definition.name, 0.01, NOON)
    schedule.note([moving, fixed], nothing, NOON + timedelta(hours=11))
    assert schedule.list_due() == []
    schedule.note([moving, fixed], nothing, NOON + timedelta(hours=13))
    assert schedule.list_due() == [moving.name]
