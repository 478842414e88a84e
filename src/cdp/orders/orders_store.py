"""Keep every report of an order, and the order that they amount to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


_LOCK_ORDERS = """
INSERT INTO orders (scope, order_id, status, currency, total, refunded, placed_at, updated_at,
                    document)
SELECT scope, order_id, '', '', 0, 0, 'infinity', 'infinity', '{}'
  FROM unnest(%b::text[], %b::text[]) AS t (scope, order_id)
 ORDER BY 1, 2
    ON CONFLICT (scope, order_id) DO UPDATE SET status = orders.status
RETURNING order_no, scope, order_id
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


def write_reports(
    connection: Driver, placed: Sequence[PlacedReport], default_currency: str
) -> set[int]:
    """Add reports and fold the orders they speak of anew; return the numbers of these orders.

    The order's row is its lock, taken in sorted order before the reports are read, so two
    transactions that report on one order both see, in turn, what the other said.
    """
    if not placed:
        return set()
    keys = sorted({(p.scope, p.report.order_id) for p in placed})
    locked = connection.execute(
        _LOCK_ORDERS, ([scope for scope, _ in keys], [order_id for _, order_id in keys])
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
    numbers = [int(row[0]) for row in locked]
    told: dict[int, list[tuple[int | None, Report]]] = {number: [] for number in numbers}
    for number, node_id, report in connection.execute(_READ_REPORTS, (numbers,)):
        told[number].append((node_id, _decode_report(report)))
    _write_orders(connection, told, default_currency)
    return set(numbers)


def _write_orders(
    connection: Driver, told: dict[int, list[tuple[int | None, Report]]], default_currency: str
) -> None:
    rows: list[tuple[int, int | None, Order]] = [
        (number, find_buyer(reports), fold_reports((r for _, r in reports), default_currency))
        for number, reports in told.items()
    ]
    connection.execute(
        _WRITE_ORDERS,
        (
            [number for number, _, _ in rows],
            [node_id for _, node_id, _ in rows],
            [order.status for _, _, order in rows],
            [order.currency for _, _, order in rows],
            [order.total for _, _, order in rows],
            [order.refunded for _, _, order in rows],
            [order.placed_at for _, _, order in rows],
            [order.updated_at for _, _, order in rows],
            [order.store for _, _, order in rows],
            [order.channel for _, _, order in rows],
            [_encode(order).decode() for _, _, order in rows],
        ),
    )


def find_buyer(reports: Iterable[tuple[int | None, Report]]) -> int | None:
    """Return the node that the order hangs on: the one named by the report that counts most,

    by rank, then time, then message id, among those that name one.
    """
    named = [(r.rank, r.at, r.message_id, node) for node, r in reports if node is not None]
    return max(named)[3] if named else None
