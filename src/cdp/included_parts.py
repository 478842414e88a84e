"""What a profile can be shown with, stage by stage: ``GET /v1/profiles/{p}?include=…``.

A stage that has something to show with a person adds a line to ``list_parts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cdp.access import masking
from cdp.identity.explain_store import list_changes, list_steps
from cdp.identity.history import order_history
from cdp.identity.routes import show_line
from cdp.identity.rules import Rules
from cdp.orders.figures import show_figures
from cdp.orders.order_document import show_order
from cdp.orders.orders_read_store import read_all_orders, read_orders
from cdp.profiles.profile_parts import PartQuery, ReadPart
from cdp.profiles.profile_store import list_nodes
from cdp.profiles.refused_traits_store import read_refused
from cdp.profiles.trait_names_store import MOST_NAMES
from cdp.profiles.visits_routes import read_channels_part, read_sessions_part
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import cut_page
from cdp.service.fold import LISTS, show_service
from cdp.service.service_store import read_service_events
from cdp.storage.rates_store import read_rates_for

_TOP = 10


def list_parts(read_rules: Callable[[], Rules], currency: str = "CNY") -> Mapping[str, ReadPart]:
    """Return the parts of other stages than ``profiles``, by name.

    ``currency`` is the one in which figures are reported.
    """

    def read_history(query: PartQuery) -> Any:
        nodes = list_nodes(query.tx, query.profile_no)
        steps = list_steps(query.tx, read_rules(), nodes)
        lines = order_history(steps, list_changes(query.tx, nodes))
        return {"data": [show_line(line, query.caller) for line in lines], "next": None}

    def read_figures(query: PartQuery) -> Any:
        orders = read_all_orders(query.tx, query.profile_no)
        money = ((order.currency, order.placed_at) for order in orders)
        rates = read_rates_for(query.tx, money, currency)
        figures = show_figures(orders, currency, rates, query.now, _TOP)
        return masking.mask_properties(figures) if query.is_masked else figures

    return {
        "figures": read_figures,
        "channels": read_channels_part,
        "history": read_history,
        "orders": read_orders_part,
        "refused_traits": read_refused_part,
        "service": read_service_part,
        "sessions": read_sessions_part,
    }


def read_orders_part(query: PartQuery) -> Any:
    """Return a person's newest orders as they stand."""
    orders = read_orders(query.tx, query.profile_no, limit=query.limit + 1)
    page, following = cut_page(orders, query.limit, lambda placed: placed[0])
    shown = [show_order(order, is_masked=query.is_masked) for _, order in page]
    return {"data": shown, "next": following}


def read_refused_part(query: PartQuery) -> Any:
    """Return how many values of traits were not kept of a person, and why; 0: all are."""
    refused = read_refused(query.tx, query.profile_no)
    if refused.last_at is None:
        return {"count": 0}
    return {
        "count": refused.registers,
        "code": "too_many_traits",
        "message": f"an identifier has up to {MOST_NAMES} traits; more stay with their events",
        "last_at": format_time(refused.last_at),
    }


def read_service_part(query: PartQuery) -> Any:
    """Return a person's tickets, calls, answers, complaints and reviews."""
    told = read_service_events(query.tx, query.profile_no, query.now)
    shown = show_service(told, query.now)
    lists = {name: shown[name][: query.limit] for name in LISTS}
    if query.is_masked:
        lists = {name: [masking.mask_properties(row) for row in lists[name]] for name in lists}
    return {**shown, **lists}
