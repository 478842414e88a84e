"""Which reports on orders a batch brings: from ecommerce events, and from posted orders. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cdp.batch import PostedOrder
from cdp.model import Event, Source
from cdp.orders.orders_store import DEFAULT_SCOPE, PlacedReport
from cdp.orders.read_report import ORDER_EVENTS, read_event


def list_reports(
    events: Iterable[tuple[Event, int | None]],
    orders: Iterable[tuple[PostedOrder, int | None]],
) -> list[PlacedReport]:
    """Return the reports of placed ``events`` and ``orders``, each with the node of its buyer."""
    reports = [
        placed
        for event, node in events
        if event.name in ORDER_EVENTS and (placed := _read_report(event, node))
    ]
    reports += [
        PlacedReport(_find_scope(order.source), order.source.number, node, order.report)
        for order, node in orders
    ]
    return reports


def _read_report(event: Event, node: int | None) -> PlacedReport | None:
    report = read_event(
        event.name or "",
        msgspec.json.decode(event.properties),
        at=event.at,
        message_id=event.message_id,
    )
    if report is None:
        return None
    return PlacedReport(_find_scope(event.source), event.source.number, node, report)


def _find_scope(source: Source) -> str:
    """Return which numbering the orders of ``source`` follow."""
    return str(source.settings.get("order_scope", DEFAULT_SCOPE))
