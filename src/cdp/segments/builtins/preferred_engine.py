"""Preferences over the orders in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed, lack, no_values, values_table
from cdp.segments.builtins.orders_engine import CUSTOMERS, choose_currency, count_orders
from cdp.segments.builtins.preferred import PreferredSettings
from cdp.segments.builtins.source_engine import Source, whole

MOST_SHOWN = 100
_FACETS = {
    "channel": "SELECT profile_no, placed_at, channel AS value FROM counted_orders WHERE qualifies",
    "store": "SELECT profile_no, placed_at, store AS value FROM counted_orders WHERE qualifies",
    "hour": """SELECT profile_no, placed_at, hour(placed_at AT TIME ZONE $timezone) AS value
                 FROM counted_orders WHERE qualifies""",
    # An order counts once for each category in it.
    "category": """SELECT DISTINCT o.profile_no, o.order_no, o.placed_at, l.category AS value
                     FROM counted_orders o JOIN core.order_lines l ON l.order_no = o.order_no
                    WHERE o.qualifies""",
}
# Of equally frequent ones the one seen last.
_MOST_FREQUENT = """
SELECT profile_no, arg_max(value, (many, seen, value)) AS value
  FROM (SELECT profile_no, value, count(*) AS many, max(placed_at) AS seen
          FROM ({rows}) WHERE value IS NOT NULL GROUP BY profile_no, value)
 GROUP BY profile_no
"""


def compute_preferred(
    source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None
) -> Computed:
    """Return each customer's most frequent channel, category, store and hour (workspace time)."""
    settings: PreferredSettings = built_in.settings
    currency = choose_currency(source, built_in.currency) if fitted is None else fitted["currency"]
    excluded = count_orders(
        source, built_in.orders, currency=currency, zero_value=settings.zero_value_orders
    )
    parts = {name: _MOST_FREQUENT.format(rows=_FACETS[name]) for name in settings.of}
    found = source.select(
        f"SELECT c.profile_no, c.orders{''.join(f', {name}.value AS {name}' for name in parts)} "
        f"FROM ({CUSTOMERS}) c "
        + " ".join(
            f"LEFT JOIN ({sql}) {name} ON {name}.profile_no = c.profile_no"
            for name, sql in parts.items()
        )
        + " WHERE c.orders >= $fewest ORDER BY c.profile_no",
        {"fewest": settings.min_orders}
        | ({"timezone": source.timezone} if "hour" in settings.of else {}),
    )
    values = values_table(
        whole(found, "profile_no"),
        {name: found[name] for name in settings.of} | {"orders": whole(found, "orders")},
    )
    if fitted is not None:
        return Computed(values)
    summary: dict[str, Any] = {
        "customers": found.num_rows,
        **{name: _count(found[name]) for name in settings.of},
        "excluded": excluded,
    }
    if not found.num_rows:
        what = f"customers with {settings.min_orders} or more orders that count"
        missing = [lack(what, 0, 1)]
        return Computed(no_values(), "not_enough_data", {**summary, "missing": missing})
    return Computed(values, summary=summary, fitted={"currency": currency})


def _count(column: Any) -> list[dict[str, Any]]:
    """Return how many prefer each value, most first."""
    rows = column.drop_null().value_counts().to_pylist()
    rows = sorted(rows, key=lambda row: (-row["counts"], str(row["values"])))
    return [{"value": row["values"], "customers": row["counts"]} for row in rows[:MOST_SHOWN]]
