"""Predicted customer value over the orders in DuckDB: fit the two models, apply them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cdp.money import minor_digits
from cdp.segments.builtins import clv_model
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed, Numbers, lack, no_values, values_table
from cdp.segments.builtins.orders_engine import choose_currency, count_orders
from cdp.segments.builtins.rfm_engine import to_minor
from cdp.segments.builtins.source_engine import Source, numbers, whole

Fitted = Mapping[str, Any]
_SEED = 20050401

BUYERS = """
WITH days AS (
    SELECT profile_no, day, sum(net) AS net, count(*) AS orders
      FROM counted_orders WHERE qualifies GROUP BY profile_no, day)
SELECT profile_no, count(*) - 1 AS x, max(day) - min(day) AS t_x, $today - min(day) AS age,
       ((sum(net) - arg_min(net, day)) / nullif(count(*) - 1, 0))::DOUBLE AS mean_net,
       sum(orders) AS orders, $today - max(day) AS days_since_last
  FROM days GROUP BY profile_no ORDER BY profile_no
"""
"""Per buyer, in days: repeat purchase days, the last and today since the first, and the mean net

revenue of a repeat day."""


def compute_modelled_clv(source: Source, built_in: BuiltIn, fitted: Fitted | None) -> Computed:
    """Fit BG/NBD and Gamma-Gamma on everybody and value each customer; with ``fitted`` parameters

    value the customers in scope.
    """
    settings: clv_model.ModelSettings = built_in.settings
    currency = choose_currency(source, built_in.currency) if fitted is None else fitted["currency"]
    excluded = count_orders(
        source, built_in.orders, currency=currency, zero_value=settings.zero_value_orders
    )
    buyers = source.select(BUYERS, {"today": source.today})
    notes = {"currency": currency, "excluded": excluded}
    if fitted is not None:
        return Computed(_value(settings, buyers, fitted))
    missing = find_missing(settings.gate, buyers)
    fitted = None if missing else fit_models(buyers, settings.unit_days, currency)
    if fitted is None:
        return Computed(
            no_values(),
            "not_enough_data",
            {
                "customers": buyers.num_rows,
                "missing": missing or [clv_model.PATTERNLESS],
                **notes,
            },
        )
    values = _value(settings, buyers, fitted)
    purchases, spend = read_models(fitted)
    model = clv_model.show_model(settings, purchases, spend, buyers.num_rows)
    summary = {
        "customers": buyers.num_rows,
        "fitted_on": min(buyers.num_rows, clv_model.MOST_FITTED),
        **_sum_up(values),
        **notes,
    }
    return Computed(values, summary=summary, model=model, fitted=fitted)


def find_missing(gate: clv_model.Gate, buyers: pa.Table) -> list[dict[str, Any]]:
    """Return what the gate finds missing."""
    if not buyers.num_rows:
        return [lack("buyers", 0, gate.buyers)]
    return gate.find_missing(
        buyers.num_rows,
        int(numbers(buyers, "age").max()),
        int(numbers(buyers, "days_since_last").min()),
        int(numbers(buyers, "orders").max()),
    )


def fit_models(buyers: pa.Table, unit_days: float, currency: str) -> dict[str, Any] | None:
    """Return the parameters of both models as JSON; ``None`` when purchases cannot be fitted."""
    # Loading scipy takes longer than most tags take to compute.
    from cdp.segments.builtins import bg_nbd, gamma_gamma

    x, t_x, age = (numbers(buyers, name) for name in ("x", "t_x", "age"))
    mean = numbers(buyers, "mean_net") / units_of(currency)
    if len(x) > clv_model.MOST_FITTED:
        chosen = np.random.default_rng(_SEED).choice(len(x), clv_model.MOST_FITTED, replace=False)
        x, t_x, age, mean = x[chosen], t_x[chosen], age[chosen], mean[chosen]
    purchases = bg_nbd.fit_purchases(x, t_x / unit_days, age / unit_days)
    if purchases is None:
        return None
    spend = gamma_gamma.fit_spend(x, mean)
    return {
        "currency": currency,
        "unit_days": unit_days,
        "purchases": {
            name: getattr(purchases, name) for name in ("r", "alpha", "a", "b", "log_likelihood")
        },
        "spend": spend and {name: getattr(spend, name) for name in ("p", "q", "v", "customers")},
    }


def read_models(fitted: Fitted) -> tuple[Any, Any]:
    """Return the two models that ``fit_models`` wrote."""
    from cdp.segments.builtins import bg_nbd, gamma_gamma

    spend = fitted["spend"]
    return (
        bg_nbd.PurchaseModel(**fitted["purchases"]),
        gamma_gamma.SpendModel(**spend) if spend else None,
    )


def units_of(currency: str) -> int:
    """Return how many minor units the unit of a currency has."""
    return int(10 ** (minor_digits(currency) or 0))


def _value(settings: clv_model.ModelSettings, buyers: pa.Table, fitted: Fitted) -> pa.Table:
    from cdp.segments.builtins import bg_nbd, gamma_gamma

    purchases, spend = read_models(fitted)
    days = settings.unit_days
    x, t_x, age = numbers(buyers, "x"), numbers(buyers, "t_x") / days, numbers(buyers, "age") / days
    # Most people bought once: whoever has the same history has the same future.
    history, place = _distinct(x, t_x, age)
    horizon = settings.horizon_days / days
    expected = bg_nbd.expected_purchases(purchases, horizon, *history)[place]
    alive = bg_nbd.p_alive(purchases, *history)[place]
    units = units_of(fitted["currency"])
    each = np.full(len(x), np.nan)
    if spend is not None:
        each = gamma_gamma.expected_value(spend, x, numbers(buyers, "mean_net") / units) * units
    discounted = clv_model.discounted_value(
        lambda end: bg_nbd.expected_purchases(purchases, end, *history),
        np.ones(len(history[0])),
        horizon=horizon,
        month=clv_model.MONTH_DAYS / days,
        monthly_discount=settings.monthly_discount,
    )[place]
    return values_table(
        whole(buyers, "profile_no"),
        {
            "x": whole(buyers, "x"),
            "t_x": np.round(t_x, 6),
            "age": np.round(age, 6),
            "p_alive": np.round(alive, 6),
            "expected_purchases": np.round(expected, 6),
            "expected_order_value": to_minor(each),
            "clv": to_minor(discounted * each),
        },
    )


def _distinct(x: Numbers, t_x: Numbers, age: Numbers) -> tuple[tuple[Numbers, ...], Any]:
    rows, place = np.unique(np.column_stack([x, t_x, age]), axis=0, return_inverse=True)
    return (rows[:, 0], rows[:, 1], rows[:, 2]), place.ravel()


def _sum_up(values: pa.Table) -> dict[str, Any]:
    value = values["value"].combine_chunks()
    clv = np.asarray(value.field("clv").cast(pa.float64()).to_numpy(zero_copy_only=False))
    expected = np.asarray(value.field("expected_purchases").to_numpy())
    known = clv[~np.isnan(clv)]
    return {
        "expected_purchases": round(float(expected.sum()), 2),
        "average_clv": round(float(known.mean())) if len(known) else None,
        "total_clv": round(float(known.sum())) if len(known) else None,
    }
