"""Keep every report of an order, and the order that they amount to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cdp.orders.order import Order, Report, fold_reports
from cdp.storage.database import Driver

DEFAULT_SCOPE = ""
"""Sources whose orders share one numbering share a scope; by default all do."""

_encode = msgspec.json.Encoder().encode
_decode_report = msgspec.json.Decoder(Report).decode


@dataclass(frozen=True, slots=True)
class PlacedReport:
    """A report, where its order's number is known, and the node of the buyer it names."""

    scope: str
    source_number: int
    node_id: int | None
    report: Report


# Most orders are new, and their row is right at once. Any other row is only locked by this: what
# it is to become depends on reports that may be read when the lock is held, and not before.
_CLAIM_ORDERS = """
INSERT INTO orders (scope, order_id, node_id, status, currency, total, refunded, placed_at,
                    updated_at, store, channel, document)
SELECT scope, order_id, node_id, status, currency, total, refunded, placed_at, updated_at, store,
       channel, document::json
  FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::bigint[],
              %b::bigint[], %b::timestamptz[], %b::timestamptz[], %b::text[], %b::text[],
              %b::text[])
       AS t (scope, order_id, node_id, status, currency, total, refunded, placed_at, updated_at,
             store, channel, document)
 ORDER BY 1, 2
    ON CONFLICT (scope, order_id) DO UPDATE SET status = orders.status
RETURNING order_no, xmax = 0
"""

_ADD_REPORTS = """
INSERT INTO order_reports (scope, order_id, source_number, message_id, node_id, report)
SELECT scope, order_id, source_number, message_id, node_id, report::json
  FROM unnest(%b::text[], %b::text[], %b::int[], %b::text[], %b::bigint[], %b::text[])
       AS t (scope, order_id, source_number, message_id, node_id, report)
    ON CONFLICT DO NOTHING
"""

_READ_REPORTS = """
SELECT o.order_no, r.node_id, r.report::text
  FROM orders o
  JOIN order_reports r USING (scope, order_id)
 WHERE o.order_no = ANY(%b::bigint[])
"""

_WRITE_ORDERS = """
UPDATE orders AS o
   SET node_id = t.node_id, status = t.status, currency = t.currency, total = t.total,
       refunded = t.refunded, placed_at = t.placed_at, updated_at = t.updated_at,
       store = t.store, channel = t.channel, document = t.document::json
  FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::bigint[], %b::bigint[],
              %b::timestamptz[], %b::timestamptz[], %b::text[], %b::text[], %b::text[])
       AS t (order_no, node_id, status, currency, total, refunded, placed_at, updated_at, store,
             channel, document)
 WHERE o.order_no = t.order_no
"""

_Told = list[tuple[int | None, Report]]
"""Reports of one order with the buyers they name."""


def write_reports(
    connection: Driver, placed: Sequence[PlacedReport], default_currency: str
) -> set[int]:
    """Add reports and fold the orders they speak of anew; return the numbers of these orders.

    The order's row is its lock, taken in sorted order before the reports are read, so two
    transactions that report on one order both see, in turn, what the other said.
    """
    if not placed:
        return set()
    told: dict[tuple[str, str], _Told] = {}
    for one in placed:
        told.setdefault((one.scope, one.report.order_id), []).append((one.node_id, one.report))
    rows = connection.execute(
        _CLAIM_ORDERS,
        (
            [scope for scope, _ in told],
            [order_id for _, order_id in told],
            *_list_columns(told.values(), default_currency),
        ),
    ).fetchall()
    connection.execute(
        _ADD_REPORTS,
        (
            [p.scope for p in placed],
            [p.report.order_id for p in placed],
            [p.source_number for p in placed],
            [p.report.message_id for p in placed],
            [p.node_id for p in placed],
            [_encode(p.report).decode() for p in placed],
        ),
    )
    _fold_known(connection, [number for number, is_new in rows if not is_new], default_currency)
    return {int(number) for number, _ in rows}


def fold_again(connection: Driver, numbers: Sequence[int], default_currency: str) -> None:
    """Fold orders anew from the reports that are left of them."""
    _fold_known(connection, list(numbers), default_currency)


def _fold_known(connection: Driver, numbers: list[int], default_currency: str) -> None:
    """Fold orders that were there before, from all their reports."""
    if not numbers:
        return
    told: dict[int, _Told] = {number: [] for number in numbers}
    for number, node_id, report in connection.execute(_READ_REPORTS, (numbers,)):
        told[number].append((node_id, _decode_report(report)))
    connection.execute(_WRITE_ORDERS, (list(told), *_list_columns(told.values(), default_currency)))


def _list_columns(told: Iterable[_Told], default_currency: str) -> tuple[list[Any], ...]:
    """Return what the orders come to, column by column."""
    buyers: list[int | None] = []
    orders: list[Order] = []
    for reports in told:
        buyers.append(find_buyer(reports))
        orders.append(fold_reports((report for _, report in reports), default_currency))
    return (
        buyers,
        [order.status for order in orders],
        [order.currency for order in orders],
        [order.total for order in orders],
        [order.refunded for order in orders],
        [order.placed_at for order in orders],
        [order.updated_at for order in orders],
        [order.store for order in orders],
        [order.channel for order in orders],
        [_encode(order).decode() for order in orders],
    )


def find_buyer(reports: Iterable[tuple[int | None, Report]]) -> int | None:
    """Return the node that the order hangs on: the one named by the report that counts most,

    by rank, then time, then message id, among those that name one.
    """
    named = [(r.rank, r.at, r.message_id, node) for node, r in reports if node is not None]
    return max(named)[3] if named else None
