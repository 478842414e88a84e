"""Read orders from Postgres: as they stand, and every version that was told of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec

from cdp.orders.order_words import Order, Report
from cdp.storage.database import Driver

Key = tuple[datetime, int]
"""Where an order stands: when it was placed, then its number."""

_PAGE = """
SELECT o.placed_at, o.order_no, o.document::text
  FROM node_profiles np
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 WHERE np.profile_no = %(person)s
   AND (%(at)s::timestamptz IS NULL
        OR (o.placed_at, o.order_no) < (%(at)s::timestamptz, %(number)s::bigint))
 ORDER BY o.placed_at DESC, o.order_no DESC
 LIMIT %(limit)s
"""
_ALL = """
SELECT o.document::text
  FROM node_profiles np
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 WHERE np.profile_no = %(person)s
 ORDER BY o.placed_at, o.order_no
"""
# Without a scope the numbering that sources share comes first.
_ORDER = """
SELECT o.scope, o.document::text, p.profile_id
  FROM orders o
  LEFT JOIN node_profiles np
    ON np.node_id = o.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
  LEFT JOIN profiles p ON p.profile_no = np.profile_no
 WHERE o.order_id = %(order_id)s AND (%(scope)s::text IS NULL OR o.scope = %(scope)s)
 ORDER BY o.scope LIMIT 1
"""
_VERSIONS = """
SELECT r.report::text, s.source_id, s.name
  FROM order_reports r LEFT JOIN sources s ON s.number = r.source_number
 WHERE r.scope = %(scope)s AND r.order_id = %(order_id)s
"""

_decode_order = msgspec.json.Decoder(Order).decode
_decode_report = msgspec.json.Decoder(Report).decode


class FoundOrder(NamedTuple):
    """An order as it stands."""

    scope: str
    order: Order
    profile_id: str | None
    """Whose it is now; ``None`` for revenue without a person."""


class Version(NamedTuple):
    """What one message said of an order, and which source sent it."""

    report: Report
    source_id: str | None
    source: str | None


def read_orders(
    connection: Driver, profile_no: int, *, limit: int, past: Key | None = None
) -> list[tuple[Key, Order]]:
    """Return a person's orders, newest first, with their place in the list, from past ``past``."""
    at, number = past or (None, None)
    rows = connection.execute(
        _PAGE, {"person": profile_no, "limit": limit, "at": at, "number": number}
    )
    return [((placed_at, order_no), _decode_order(text)) for placed_at, order_no, text in rows]


def read_all_orders(connection: Driver, profile_no: int) -> list[Order]:
    """Return all orders of a person, oldest first."""
    return [_decode_order(text) for (text,) in connection.execute(_ALL, {"person": profile_no})]


def find_order(connection: Driver, order_id: str, scope: str | None = None) -> FoundOrder | None:
    """Return the order with this id, of the numbering ``scope`` when it is given."""
    row = connection.execute(_ORDER, {"order_id": order_id, "scope": scope}).fetchone()
    return None if row is None else FoundOrder(row[0], _decode_order(row[1]), row[2])


def read_versions(connection: Driver, scope: str, order_id: str) -> list[Version]:
    """Return every version that was told of an order, newest first."""
    rows = connection.execute(_VERSIONS, {"scope": scope, "order_id": order_id})
    return sorted(_list_versions(rows.fetchall()), key=_age_of, reverse=True)


def _list_versions(rows: list[tuple[str, str, str]]) -> Iterator[Version]:
    for text, source_id, name in rows:
        yield Version(_decode_report(text), source_id, name)


def _age_of(version: Version) -> tuple[datetime, str, str]:
    return version.report.at, version.report.message_id, version.source_id or ""
