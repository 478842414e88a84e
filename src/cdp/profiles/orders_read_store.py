"""A person's orders as they stand, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from cdp.runtime.clock import format_time, parse_time
from cdp.storage.database import Driver

Key = tuple[datetime, int]
"""Where an order stands: when it was placed, then its number."""

_PAGE = """
SELECT o.placed_at, o.order_no, o.order_id, o.currency, o.total, o.refunded, o.document::text
  FROM node_profiles np
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 WHERE np.profile_no = %(person)s
   AND (%(at)s::timestamptz IS NULL
        OR (o.placed_at, o.order_no) < (%(at)s::timestamptz, %(number)s::bigint))
 ORDER BY o.placed_at DESC, o.order_no DESC
 LIMIT %(limit)s
"""
_AMOUNTS = ("discount", "tax", "shipping")
_TIMES = ("placed_at", "updated_at")


def read_orders(
    connection: Driver, profile_no: int, *, limit: int, past: Key | None = None
) -> list[tuple[Key, dict[str, Any]]]:
    """Return orders with their place in the list, from past the place ``past``."""
    at, number = past or (None, None)
    rows = connection.execute(
        _PAGE, {"person": profile_no, "limit": limit, "at": at, "number": number}
    )
    return [((row[0], row[1]), _show(*row[2:])) for row in rows]


def _show(order_id: str, currency: str, total: int, refunded: int, text: str) -> dict[str, Any]:
    document = msgspec.json.decode(text)

    def money(amount: int | None) -> dict[str, Any] | None:
        return None if amount is None else {"amount": amount, "currency": currency}

    return {
        "order_id": order_id,
        "status": document.get("status"),
        "currency": currency,
        **{name: _show_time(document.get(name)) for name in _TIMES},
        "total": money(total),
        "refunded": money(refunded),
        "net": money(total - refunded),
        **{name: money(document.get(name)) for name in _AMOUNTS},
        "store": document.get("store"),
        "channel": document.get("channel"),
        "lines": [
            {**line, "price": money(line.get("price"))} for line in document.get("lines", ())
        ],
        "refunds": [
            {
                **refund,
                "at": _show_time(refund.get("at")),
                "amount": money(refund.get("amount")),
            }
            for refund in document.get("refunds", ())
        ],
    }


def _show_time(text: str | None) -> str | None:
    time = None if text is None else parse_time(text)
    return None if time is None else format_time(time)
