"""Association with time lag over the orders' lines in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cdp.segments.builtins import cross_sell
from cdp.segments.builtins.cross_sell import CrossSellSettings
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed, lack, no_values
from cdp.segments.builtins.orders_engine import choose_currency, count_orders
from cdp.segments.builtins.source_engine import Source, numbers
from cdp.storage.registered_engine import registered

_BOUGHT = """
CREATE OR REPLACE TEMP TABLE bought_items AS
SELECT DISTINCT o.profile_no, l.{by} AS item, o.day
  FROM counted_orders o JOIN core.order_lines l ON l.order_no = o.order_no
 WHERE o.qualifies AND l.{by} IS NOT NULL AND l.{by} <> ''
"""
_PAIRS = """
WITH firsts AS (SELECT profile_no, item, min(day) AS day FROM bought_items
                 GROUP BY profile_no, item),
mature AS (SELECT * FROM firsts WHERE day + $window <= $today),
followed AS (
    SELECT a.item AS a, b.item AS b, count(DISTINCT a.profile_no) AS customers
      FROM mature a JOIN bought_items b ON b.profile_no = a.profile_no
       AND b.item <> a.item AND b.day > a.day AND b.day <= a.day + $window
     GROUP BY a.item, b.item),
base AS (SELECT item, count(*) AS customers FROM mature GROUP BY item),
buyers AS (SELECT item, count(*) AS customers FROM firsts GROUP BY item)
SELECT f.a, f.b, f.customers AS followed, base.customers AS bought_a,
       buyers.customers AS bought_b
  FROM followed f JOIN base ON base.item = f.a JOIN buyers ON buyers.item = f.b
 WHERE f.customers >= $fewest
 ORDER BY followed DESC, f.a, f.b
"""
_NEXT = """
WITH own AS (SELECT DISTINCT profile_no, item FROM bought_items),
best AS (
    SELECT own.profile_no, r.b AS item, max(r.confidence) AS confidence,
           arg_max(r.lift, r.confidence) AS lift, arg_max(r.a, r.confidence) AS because
      FROM own JOIN association_rules r ON r.a = own.item
      ANTI JOIN own has ON has.profile_no = own.profile_no AND has.item = r.b
     GROUP BY own.profile_no, r.b)
SELECT profile_no,
       list({{'item': item, 'confidence': confidence, 'lift': lift, 'because': because}}
            ORDER BY confidence DESC, lift DESC, item)[1:{most}] AS value
  FROM best GROUP BY profile_no ORDER BY profile_no
"""
_RULE_TYPES = pa.schema(
    [
        ("a", pa.string()), ("b", pa.string()), ("customers", pa.int64()),
        ("support", pa.float64()), ("confidence", pa.float64()), ("lift", pa.float64()),
    ]
)  # fmt: skip


def compute_cross_sell(
    source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None
) -> Computed:
    """Recommend to each customer what others bought after the same things."""
    settings: CrossSellSettings = built_in.settings
    currency = choose_currency(source, built_in.currency) if fitted is None else fitted["currency"]
    excluded = count_orders(
        source, built_in.orders, currency=currency, zero_value=settings.zero_value_orders
    )
    source.run(_BOUGHT.format(by=settings.by))
    if fitted is not None:
        return Computed(_recommend(source, settings, fitted["rules"]))
    found = source.select("SELECT count(DISTINCT profile_no) AS customers FROM bought_items")
    customers = int(found["customers"][0].as_py())
    rules = _find_rules(source, settings, customers)
    summary = {
        "customers": customers,
        "rules": len(rules),
        "by": settings.by,
        "within_days": settings.within_days,
        "excluded": excluded,
    }
    if not rules:
        missing = [_find_missing(source, settings)]
        return Computed(no_values(), "not_enough_data", {**summary, "missing": missing})
    values = _recommend(source, settings, rules)
    return Computed(
        values,
        summary={**summary, "recommended_to": values.num_rows},
        model={"rules": cross_sell.show_rules(rules)},
        fitted={"currency": currency, "rules": rules},
    )


def _find_missing(source: Source, settings: CrossSellSettings) -> dict[str, Any]:
    """Return why no rule was found: how many followed the one that most followed."""
    asked = {"window": settings.within_days, "today": source.today, "fewest": 1}
    most = source.select(f"SELECT max(followed) AS most FROM ({_PAIRS})", asked)["most"][0].as_py()
    if most is not None and most >= settings.min_customers:
        words = "what customers buy one after another is not linked as strongly as asked for"
        return lack("associations of the confidence and lift asked for", 0, 1, words)
    what = f"customers who bought one thing and another within {settings.within_days} days after"
    return lack(what, most or 0, settings.min_customers)


def _find_rules(
    source: Source, settings: CrossSellSettings, customers: int
) -> list[dict[str, Any]]:
    """Return the rules that are strong enough, the most confident first."""
    pairs = source.select(
        _PAIRS,
        {
            "window": settings.within_days,
            "today": source.today,
            "fewest": settings.min_customers,
        },
    )
    followed = numbers(pairs, "followed")
    strength = cross_sell.measure(
        followed, numbers(pairs, "bought_a"), numbers(pairs, "bought_b"), customers
    )
    is_strong = (strength.confidence >= settings.min_confidence) & (
        strength.lift >= settings.min_lift
    )
    order = np.lexsort((-strength.lift, -strength.confidence))
    kept = [index for index in order.tolist() if is_strong[index]][: cross_sell.MOST_RULES]
    names = pairs.select(["a", "b"]).take(pa.array(kept, pa.int64())).to_pylist()
    return [
        {
            **name,
            "customers": int(followed[index]),
            "support": round(float(strength.support[index]), 6),
            "confidence": round(float(strength.confidence[index]), 6),
            "lift": round(float(strength.lift[index]), 6),
        }
        for index, name in zip(kept, names, strict=True)
    ]


def _recommend(source: Source, settings: CrossSellSettings, rules: Any) -> pa.Table:
    table = pa.Table.from_pylist(list(rules), schema=_RULE_TYPES)
    with registered(source.duck, "association_rules", table):
        return source.select(_NEXT.format(most=settings.most))
