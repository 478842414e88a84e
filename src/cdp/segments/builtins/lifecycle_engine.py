"""Lifecycle stages over rules, identifiers and orders in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cdp.segments.builtins import lifecycle
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed, Whole, lack, no_values, values_table
from cdp.segments.builtins.lifecycle import LifecycleSettings
from cdp.segments.builtins.orders_engine import choose_currency, count_orders
from cdp.segments.builtins.source_engine import Source, numbers, whole

MOST_MONTHS = 13

_PEOPLE = """
WITH days AS (SELECT DISTINCT profile_no, day FROM counted_orders WHERE qualifies),
gaps AS (SELECT profile_no, day,
                day - lag(day) OVER (PARTITION BY profile_no ORDER BY day) AS gap FROM days),
lasts AS (SELECT profile_no, $today - max(day) AS days_since, arg_max_null(gap, day) AS last_gap
            FROM gaps GROUP BY profile_no),
sums AS (SELECT profile_no, count(*) FILTER (qualifies) AS orders, sum(net)::BIGINT AS net
           FROM counted_orders GROUP BY profile_no),
known AS (SELECT DISTINCT o.profile_no FROM core.nodes n JOIN {owners} o ON o.node_id = n.node_id
           WHERE o.until = 'infinity' AND n.variant = ''
             AND n.type NOT IN ('anonymous_id', 'device_id'))
SELECT p.profile_no, k.profile_no IS NOT NULL AS is_known, coalesce(s.orders, 0) AS orders,
       coalesce(s.net, 0) AS net, l.days_since, l.last_gap
  FROM core.profiles p {among}
  LEFT JOIN sums s ON s.profile_no = p.profile_no
  LEFT JOIN lasts l ON l.profile_no = p.profile_no
  LEFT JOIN known k ON k.profile_no = p.profile_no
 ORDER BY p.profile_no
"""
_MONTHS = """
SELECT DISTINCT profile_no, (year(d) * 12 + month(d) - 1)::BIGINT AS month
  FROM (SELECT profile_no, DATE '1970-01-01' + day::INTEGER AS d
          FROM counted_orders WHERE qualifies)
"""


def compute_lifecycle(
    source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None
) -> Computed:
    """Place everybody in a stage."""
    settings: LifecycleSettings = built_in.settings
    currency = choose_currency(source, built_in.currency) if fitted is None else fitted["currency"]
    excluded = count_orders(
        source, built_in.orders, currency=currency, zero_value=settings.zero_value_orders
    )
    among = "SEMI JOIN scope USING (profile_no)" if source.is_restricted else ""
    people = source.select(
        _PEOPLE.format(owners=source.owners, among=among), {"today": source.today}
    )
    place = (
        _place_by_rules(source, settings, whole(people, "profile_no"))
        if settings.stages
        else lifecycle.place_by_orders(
            settings,
            numbers(people, "is_known") > 0,
            numbers(people, "orders"),
            numbers(people, "days_since"),
            numbers(people, "last_gap"),
        )
    )
    names = settings.names
    values = values_table(
        whole(people, "profile_no"), {"stage": np.array(names)[place], "position": place}
    )
    if fitted is not None:
        return Computed(values)
    summary = {
        **lifecycle.summarise(names, place, numbers(people, "orders"), numbers(people, "net")),
        "months": _count_months(source),
        "currency": currency,
        "excluded": excluded,
    }
    if not people.num_rows:
        missing = [lack("people", 0, 1)]
        return Computed(no_values(), "not_enough_data", {**summary, "missing": missing})
    return Computed(values, summary=summary, fitted={"currency": currency})


def _place_by_rules(source: Source, settings: LifecycleSettings, people: Whole) -> Whole:
    place = np.full(len(people), len(settings.stages) - 1, dtype=np.int64)
    is_open = np.ones(len(people), dtype=bool)
    for index, stage in enumerate(settings.stages[:-1]):
        hit = is_open & np.isin(people, source.find_holders(stage.document))
        place[hit] = index
        is_open &= ~hit
    return place


def _count_months(source: Source) -> list[dict[str, Any]]:
    found = source.select(_MONTHS)
    today = source.select(
        "SELECT year(d) * 12 + month(d) - 1 AS month "
        "FROM (SELECT DATE '1970-01-01' + $today::INTEGER AS d)",
        {"today": source.today},
    )
    last = int(today["month"][0].as_py())
    rows = lifecycle.count_intervals(whole(found, "profile_no"), whole(found, "month"), last)
    return [_name_month(row, last) for row in rows[-MOST_MONTHS:]]


def _name_month(row: Mapping[str, int], last: int) -> dict[str, Any]:
    year, month = divmod(row["interval"], 12)
    counts = {name: count for name, count in row.items() if name != "interval"}
    return {
        "month": f"{year:04}-{month + 1:02}",
        **counts,
        "is_partial": row["interval"] == last,
    }
