"""Orders as built-in tags count them, out of DuckDB.

An order *qualifies* when it has a person, is not cancelled, is not later than the snapshot, and is
worth something after refunds (or is free of charge, where a setting lets such orders count).
Returns that name no order reduce the revenue of their person and are no order.

Sums never mix currencies.
"""

from __future__ import annotations

from datetime import datetime

from cdp.money import minor_digits
from cdp.segments.builtins.source_engine import Source
from cdp.segments.compile_orders import matching_orders
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters
from cdp.segments.rules import Orders
from cdp.segments.windows import LATEST

_OWNED = """
CREATE OR REPLACE TEMP TABLE owned_orders AS
SELECT f.profile_no, r.order_no, r.status, f.currency,
       round(f.value::DOUBLE * {units})::BIGINT AS net,
       r.net AS own_net, r.refunded, r.placed_at, r.channel, r.store,
       date_diff('day', DATE '1970-01-01', (r.placed_at AT TIME ZONE $timezone)::DATE) AS day
  FROM ({found}) f JOIN core.orders r ON r.order_id = f.message_id AND r.scope = f.source_id
"""
# Where there is nothing to convert and nothing to choose, in half the time.
_OWNED_PLAIN = """
CREATE OR REPLACE TEMP TABLE owned_orders AS
SELECT m.profile_no, r.order_no, r.status, if(r.currency = $currency, r.currency, NULL) AS currency,
       r.net, r.net AS own_net, r.refunded, r.placed_at, r.channel, r.store,
       date_diff('day', DATE '1970-01-01', (r.placed_at AT TIME ZONE $timezone)::DATE) AS day
  FROM core.orders r JOIN {owners} m
    ON r.node_id = m.node_id AND r.placed_at >= m.since AND r.placed_at < m.until
"""
_CURRENCIES = """
SELECT currency, count(*) AS orders FROM core.orders
 WHERE placed_at <= $until GROUP BY currency ORDER BY orders DESC, currency
"""
_HAS_RATES = 'SELECT 1 FROM core.rates WHERE currency = $currency OR "to" = $currency LIMIT 1'
_COUNTED = """
CREATE OR REPLACE TEMP TABLE counted_orders AS
SELECT *, own_net > 0 {or_zero} AS qualifies FROM owned_orders
 WHERE placed_at <= $until {window} AND currency IS NOT NULL AND {live}
"""
_EXCLUDED = """
SELECT count(*) FILTER (placed_at > $until) AS future,
       count(*) FILTER (is_seen AND currency IS NULL) AS other_currency,
       count(*) FILTER (is_seen AND NOT ({live})) AS cancelled,
       count(*) FILTER (is_counted AND own_net <= 0 AND refunded <> 0) AS refunded,
       count(*) FILTER (is_counted AND own_net <= 0 AND refunded = 0) AS zero_value
  FROM (SELECT *, is_seen AND currency IS NOT NULL AND {live} AS is_counted
          FROM (SELECT *, placed_at <= $until AS is_seen FROM owned_orders))
"""
_WITHOUT_PERSON = """
SELECT count(*) AS orders FROM core.orders r
 WHERE r.placed_at <= $until AND NOT EXISTS (
       FROM core.node_profiles m WHERE m.node_id = r.node_id
        AND r.placed_at >= m.since AND r.placed_at < m.until)
"""

CUSTOMERS = """
SELECT profile_no, count(*) FILTER (qualifies) AS orders, sum(net)::BIGINT AS net,
       min(day) FILTER (qualifies) AS first_day, max(day) FILTER (qualifies) AS last_day
  FROM counted_orders GROUP BY profile_no HAVING count(*) FILTER (qualifies) > 0
 ORDER BY profile_no
"""
"""Customers: whoever has a qualifying order; ``net`` takes in refunds without an order."""


def choose_currency(source: Source, wanted: str | None) -> str:
    """Return the currency that is counted in: the one asked for, else the workspace's, else, when

    no order is in that and nothing converts into it, the one that most are in.
    """
    if wanted:
        return wanted
    found = source.select(_CURRENCIES, {"until": source.until})["currency"].to_pylist()
    if source.currency in found or not found:
        return source.currency
    rates = source.select(_HAS_RATES, {"currency": source.currency})
    return source.currency if rates.num_rows else str(found[0])


def count_orders(
    source: Source,
    orders: Orders,
    *,
    currency: str,
    zero_value: bool,
    since: datetime | None = None,
) -> dict[str, int]:
    """Make the temporary table ``counted_orders`` (profile_no, order_no, net, day, qualifies, …).

    Amounts are minor units of ``currency``: orders in another are converted at their day's rate, or
    left out where there is none. ``since``: only orders later than it. Return how many orders are
    left out, by why; nothing when only some people are looked at.
    """
    _gather_orders(source, orders, currency)
    # Whoever asks for orders of some status has said which ones count.
    names_status = any(condition.field == "status" for condition in orders.where)
    live = "TRUE" if names_status else "coalesce(status, '') <> 'cancelled'"
    until = {"until": source.until}
    source.run(
        _COUNTED.format(
            or_zero="OR (own_net = 0 AND refunded = 0)" if zero_value else "",
            window="" if since is None else "AND placed_at > $since",
            live=live,
        ),
        until if since is None else {**until, "since": since},
    )
    if source.is_restricted:
        return {}
    excluded: dict[str, int] = source.select(_EXCLUDED.format(live=live), until).to_pylist()[0]
    if zero_value:
        excluded["zero_value"] = 0
    excluded["without_person"] = source.select(_WITHOUT_PERSON, until)["orders"][0].as_py()
    return excluded


def _gather_orders(source: Source, orders: Orders, currency: str) -> None:
    """Make the temporary table ``owned_orders`` of the orders meant, with whose they are."""
    zone = {"timezone": source.timezone}
    has_rates = source.select(_HAS_RATES, {"currency": currency}).num_rows > 0
    if not (orders.where or orders.line_where or has_rates):
        source.run(_OWNED_PLAIN.format(owners=source.owners), {**zone, "currency": currency})
        return
    parameters = Parameters()
    everything = Scope(LATEST, source.timezone, source.is_restricted)
    found = matching_orders(orders, everything, parameters, ("total",), into=currency)
    units = 10 ** (minor_digits(currency) or 0)
    source.run(_OWNED.format(found=found, units=units), {**parameters.values, **zone})
