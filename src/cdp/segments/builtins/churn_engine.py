"""Churn risk over orders or contracts in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cdp.segments.builtins import bands, churn_contract, churn_gap, churn_model, clv_model
from cdp.segments.builtins.churn_settings import BANDS, ChurnSettings
from cdp.segments.builtins.clv_engine import BUYERS, find_missing, fit_models, read_models
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import (
    Computed,
    Numbers,
    count_values,
    lack,
    no_values,
    values_table,
)
from cdp.segments.builtins.orders_engine import choose_currency, count_orders
from cdp.segments.builtins.source_engine import Source, numbers, whole
from cdp.segments.builtins.traits_engine import select_trait
from cdp.segments.windows import bounds

Fitted = Mapping[str, Any]

_GAPS = """
WITH days AS (SELECT DISTINCT profile_no, day FROM counted_orders WHERE qualifies),
gaps AS (SELECT profile_no, day,
                day - lag(day) OVER (PARTITION BY profile_no ORDER BY day) AS gap FROM days)
"""
_RHYTHMS = f"""{_GAPS}
SELECT profile_no, count(*) AS order_days, $today - max(day) AS days_since,
       quantile_cont(gap, 0.5)::DOUBLE AS own_gap
  FROM gaps GROUP BY profile_no ORDER BY profile_no
"""
_POPULATION_GAP = f"{_GAPS} SELECT quantile_cont(gap, 0.9)::DOUBLE AS gap FROM gaps"
_KNOWN = """
WITH until AS (SELECT profile_no, day, net FROM counted_orders
                WHERE qualifies AND day <= $moment)
SELECT profile_no, $moment - max(day) AS days_since, count(DISTINCT day) AS order_days,
       $moment - min(day) AS tenure, sum(net)::DOUBLE AS revenue,
       NOT EXISTS (FROM counted_orders c WHERE c.profile_no = until.profile_no AND c.qualifies
                     AND c.day > $moment AND c.day <= $moment + $horizon) AS churned
  FROM until GROUP BY profile_no ORDER BY profile_no
"""


def compute_churn_risk(source: Source, built_in: BuiltIn, fitted: Fitted | None) -> Computed:
    """Rate every customer by the method that the settings name."""
    settings: ChurnSettings = built_in.settings
    if settings.method == "contractual":
        return _compute_contractual(source, settings, fitted)
    currency = choose_currency(source, built_in.currency) if fitted is None else fitted["currency"]
    excluded = count_orders(
        source, built_in.orders, currency=currency, zero_value=settings.zero_value_orders
    )
    rhythms = source.select(_RHYTHMS, {"today": source.today})
    notes = {"currency": currency, "excluded": excluded, "customers": rhythms.num_rows}
    if fitted is None:
        found = _fit(source, settings, currency)
        if isinstance(found, list):
            return Computed(no_values(), "not_enough_data", {"missing": found, **notes})
        fitted, model = found
    else:
        model = None
    values, by_band = _rate(source, settings, rhythms, fitted)
    return Computed(
        values, summary={"method": settings.method, **by_band, **notes}, model=model, fitted=fitted
    )


def _fit(
    source: Source, settings: ChurnSettings, currency: str
) -> list[dict[str, Any]] | tuple[dict[str, Any], dict[str, Any]]:
    """Return the population's part and what to show of it, or what is missing."""
    gap = source.select(_POPULATION_GAP)["gap"][0].as_py()
    if gap is None:
        return [lack("customers who bought on two days", 0, 1, "nobody bought on two days")]
    fitted: dict[str, Any] = {"currency": currency, "population_gap": gap}
    model: dict[str, Any] = {"population_gap_days": gap, "k": settings.k}
    if settings.method == "p_alive":
        buyers = source.select(BUYERS, {"today": source.today})
        if missing := find_missing(settings.gate, buyers):
            return missing
        models = fit_models(buyers, clv_model.UNIT_DAYS["week"], currency)
        if models is None:
            return [clv_model.PATTERNLESS]
        fitted |= models
        model |= {"unit": "week", "customers": buyers.num_rows, "purchases": models["purchases"]}
    if settings.method == "model":
        return _train(source, settings, fitted, model)
    return fitted, model


def _train(
    source: Source, settings: ChurnSettings, fitted: dict[str, Any], model: dict[str, Any]
) -> list[dict[str, Any]] | tuple[dict[str, Any], dict[str, Any]]:
    horizon = settings.horizon_days
    earlier = _read_moment(source, source.today - 2 * horizon, horizon)
    later = _read_moment(source, source.today - horizon, horizon)
    missing = earlier.find_missing(f"{2 * horizon} days ago")
    missing += later.find_missing(f"{horizon} days ago")
    if missing:
        return missing
    fitted["model"], shown = churn_model.train(earlier, later)
    return fitted, {**model, "horizon_days": horizon, **shown}


def _read_moment(source: Source, moment: int, horizon: int) -> churn_model.Moment:
    known = source.select(_KNOWN, {"moment": moment, "horizon": horizon})
    return churn_model.Moment(_read_features(known), numbers(known, "churned") > 0)


def _read_features(known: pa.Table) -> Numbers:
    names = ("days_since", "order_days", "tenure", "revenue")
    return churn_model.make_features(*(numbers(known, name) for name in names))


def _rate(
    source: Source, settings: ChurnSettings, rhythms: pa.Table, fitted: Fitted
) -> tuple[pa.Table, dict[str, Any]]:
    since, days = numbers(rhythms, "days_since"), numbers(rhythms, "order_days")
    rated = churn_gap.rate_by_gap(
        since, numbers(rhythms, "own_gap"), days, fitted["population_gap"], settings.k
    )
    risk, basis = rated.risk, rated.basis
    if settings.method == "p_alive":
        risk = np.where(days > 1, 1 - _read_alive(source, fitted), risk)
        basis = np.where(days > 1, "p_alive", basis)
    if settings.method == "model":
        known = source.select(_KNOWN, {"moment": source.today, "horizon": 0})
        risk = churn_model.predict(fitted["model"], _read_features(known))
        basis = np.full(len(risk), "model")
    risk = np.round(risk, 6)
    band = place(risk, settings)
    values = values_table(
        whole(rhythms, "profile_no"),
        {
            "risk": risk,
            "band": band,
            "churned": rated.churned,
            "days_since_last": whole(rhythms, "days_since"),
            "expected_gap": np.round(rated.expected_gap, 6),
            "basis": basis,
        },
    )
    return values, {"bands": count_values(band), "churned": int(rated.churned.sum())}


def place(risk: Numbers, settings: ChurnSettings) -> Any:
    """Return the bands: low below 33 %, medium to 66 % (included), high above."""
    just_above = np.nextafter(settings.bands[1], np.inf)
    return bands.place_in_bands(risk, (settings.bands[0], float(just_above)), BANDS)


def _read_alive(source: Source, fitted: Fitted) -> Numbers:
    from cdp.segments.builtins import bg_nbd

    buyers = source.select(BUYERS, {"today": source.today})
    unit = fitted["unit_days"]
    purchases, _ = read_models(fitted)
    x, t_x, age = (numbers(buyers, name) for name in ("x", "t_x", "age"))
    return bg_nbd.p_alive(purchases, x, t_x / unit, age / unit)


def _compute_contractual(
    source: Source, settings: ChurnSettings, fitted: Fitted | None
) -> Computed:
    assert settings.started is not None
    assert settings.ended is not None
    contracts = _read_contracts(source, settings)
    started, ended = numbers(contracts, "started"), numbers(contracts, "ended")
    period = bounds(settings.period, source.until, source.timezone)
    now = source.until.timestamp()
    start = period.start.timestamp() if period.start else float("-inf")
    if fitted is None:
        summary = churn_contract.count_churn(started, ended, start, period.end.timestamp())
        if summary["churn_rate"] is None:
            missing = [lack("customers under contract when the period began", 0, 1)]
            return Computed(no_values(), "not_enough_data", {**summary, "missing": missing})
        fitted = {"churn_rate": summary["churn_rate"]}
    else:
        summary = {}
    has_left = ended <= now
    risk = np.asarray(np.where(has_left, 1.0, fitted["churn_rate"]), dtype=np.float64).round(6)
    band = place(risk, settings)
    nothing = np.full(len(risk), np.nan)
    values = values_table(
        whole(contracts, "profile_no"),
        {
            "risk": risk,
            "band": band,
            "churned": has_left,
            "days_since_last": nothing,
            "expected_gap": nothing,
            "basis": np.full(len(risk), "contract"),
        },
    )
    return Computed(
        values,
        summary={"method": "contractual", "bands": count_values(band), **summary},
        fitted=fitted,
    )


def _read_contracts(source: Source, settings: ChurnSettings) -> pa.Table:
    """Return the contracts that have begun, their times in seconds since 1970."""
    assert settings.started is not None
    assert settings.ended is not None
    parts = {}
    params: dict[str, object] = {}
    for name, path in (("started", settings.started), ("ended", settings.ended)):
        sql, given = select_trait(source, path)
        for key, value in given.items():
            sql = sql.replace(f"${key}", f"${name}_{key}")
            params[f"{name}_{key}"] = value
        parts[name] = sql
    time = "epoch(try_cast(json_extract_string({0}.value, '$') AS TIMESTAMPTZ))"
    return source.select(
        f"""SELECT s.profile_no, {time.format("s")}::DOUBLE AS started,
                   {time.format("e")}::DOUBLE AS ended
              FROM ({parts["started"]}) s LEFT JOIN ({parts["ended"]}) e USING (profile_no)
             WHERE {time.format("s")} <= epoch($now::TIMESTAMPTZ) ORDER BY s.profile_no""",
        {**params, "now": source.until},
    )
