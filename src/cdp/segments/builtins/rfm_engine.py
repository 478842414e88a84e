"""RFM, value tiers and simple customer value over the orders in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cdp.segments.builtins import clv_simple, rfm, value_tier
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed, Numbers, lack, no_values, values_table
from cdp.segments.builtins.orders_engine import CUSTOMERS, choose_currency, count_orders
from cdp.segments.builtins.source_engine import Source, numbers, whole
from cdp.segments.windows import bounds

Fitted = Mapping[str, Any]


def compute_rfm(source: Source, built_in: BuiltIn, fitted: Fitted | None) -> Computed:
    """Score every customer; with ``fitted`` cuts only the customers in scope."""
    settings: rfm.RfmSettings = built_in.settings
    customers, notes = _read_customers(source, built_in, fitted, settings.zero_value_orders)
    figures = {
        "recency": source.today - numbers(customers, "last_day"),
        "frequency": numbers(customers, "orders"),
        "monetary": numbers(customers, "net"),
    }
    count = len(figures["recency"])
    if fitted is None and not count:
        return _without_customers(notes)
    cuts = rfm.find_cuts(settings, figures) if fitted is None else fitted["cuts"]
    population = count if fitted is None else fitted["customers"]
    scores = rfm.score_customers(settings, cuts, figures, population)
    values = values_table(
        whole(customers, "profile_no"),
        {name: np.asarray(column, dtype=np.int64) for name, column in figures.items()}
        | {"r": scores.r, "f": scores.f, "m": scores.m, "group": scores.group},
    )
    if fitted is not None:
        return Computed(values)
    return Computed(
        values,
        summary={**rfm.summarise(settings, cuts, scores), **notes},
        fitted={"cuts": cuts, "customers": count, "currency": notes["currency"]},
    )


def compute_value_tier(source: Source, built_in: BuiltIn, fitted: Fitted | None) -> Computed:
    """Place every customer in a tier by net revenue, in a window or ever."""
    settings: value_tier.TierSettings = built_in.settings
    customers, notes = _read_customers(
        source, built_in, fitted, settings.zero_value_orders, settings.within
    )
    revenue = numbers(customers, "net")
    if fitted is None and not len(revenue):
        return _without_customers(notes)
    thresholds = (
        value_tier.find_thresholds(settings, revenue) if fitted is None else fitted["thresholds"]
    )
    tiers = value_tier.place_in_tiers(settings, thresholds, revenue)
    values = values_table(
        whole(customers, "profile_no"),
        {"tier": tiers, "revenue": whole(customers, "net"), "orders": whole(customers, "orders")},
    )
    if fitted is not None:
        return Computed(values)
    return Computed(
        values,
        summary={**value_tier.summarise(settings, thresholds, tiers, revenue), **notes},
        fitted={"thresholds": thresholds, "currency": notes["currency"]},
    )


def compute_simple_clv(source: Source, built_in: BuiltIn, fitted: Fitted | None) -> Computed:
    """Value every customer by yearly value, margin and lifetime."""
    settings: clv_simple.SimpleSettings = built_in.settings
    customers, notes = _read_customers(source, built_in, fitted, settings.zero_value_orders)
    revenue = numbers(customers, "net")
    if fitted is None and not len(revenue):
        return _without_customers(notes)
    currency = notes["currency"] if fitted is None else fitted["currency"]
    cac = clv_simple.find_cac(settings, currency)
    tenure = source.today - numbers(customers, "first_day")
    found = clv_simple.value_customers(settings, revenue, tenure, cac)
    columns: dict[str, Any] = {
        "yearly_value": to_minor(found.yearly_value),
        "lifetime_years": np.full(len(revenue), found.lifetime_years),
        "gross": to_minor(found.gross),
        "net": to_minor(found.net),
        "historic": whole(customers, "net"),
    }
    if found.discounted is not None:
        columns["discounted"] = to_minor(found.discounted)
    flags = clv_simple.list_flags(settings, found.is_short)
    columns["flags"] = pa.array(flags, pa.list_(pa.string()))
    values = values_table(whole(customers, "profile_no"), columns)
    if fitted is not None:
        return Computed(values)
    valued = found.gross[~np.isnan(found.gross)]
    summary = {
        "customers": len(revenue),
        "valued": len(valued),
        "lifetime_years": found.lifetime_years,
        "annual_churn": settings.yearly_churn,
        "average_gross": round(float(valued.mean())) if len(valued) else None,
        "historic_revenue": round(float(revenue.sum())),
        "flags": clv_simple.list_flags(settings, np.zeros(1, dtype=bool))[0],
    }
    return Computed(values, summary={**summary, **notes}, fitted={"currency": currency})


def _without_customers(notes: Mapping[str, Any]) -> Computed:
    missing = [lack("customers with an order that counts", 0, 1)]
    return Computed(no_values(), "not_enough_data", {"customers": 0, "missing": missing, **notes})


def to_minor(amounts: Numbers) -> pa.Array:
    """Return amounts as whole minor units; NaN becomes null."""
    rounded = np.sign(amounts) * np.floor(np.abs(amounts) + 0.5)
    return pa.array(rounded, from_pandas=True).cast(pa.int64(), safe=False)


def _read_customers(
    source: Source,
    built_in: BuiltIn,
    fitted: Fitted | None,
    zero_value: bool,
    window: Any = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the customers, and what to say of the orders that were left out."""
    currency = choose_currency(source, built_in.currency) if fitted is None else fitted["currency"]
    since = None
    if window is not None:
        since = bounds(window, source.until, source.timezone).start
    excluded = count_orders(
        source, built_in.orders, currency=currency, zero_value=zero_value, since=since
    )
    customers = source.select(CUSTOMERS)
    notes = {
        "currency": currency,
        "orders": int(numbers(customers, "orders").sum()),
        "excluded": excluded,
    }
    return customers, notes
