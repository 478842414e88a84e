"""The shapes in which accounts are shown, masked for who may not see personal values. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cdp.access import masking
from cdp.accounts.accounts_read_store import Account, Member
from cdp.accounts.figures_store import Figures
from cdp.revenue import show_money, show_reported, show_sums
from cdp.runtime.clock import format_time


def show_account(account: Account, *, is_masked: bool) -> dict[str, Any]:
    """Return an account's own facts."""
    return {
        "account_id": account.account_id,
        "type": account.type,
        "parent_account_id": account.parent,
        "traits": masking.mask_traits(account.traits) if is_masked else account.traits,
        "created_at": format_time(account.created_at),
        "updated_at": _show_time(account.updated_at),
    }


def show_members(members: Iterable[Member], *, is_masked: bool) -> list[dict[str, Any]]:
    """Return members as they are listed; a role is free text, so it may hold a contact."""
    rows = [
        {"profile_id": one.profile_id, "role": one.role, "since": format_time(one.since)}
        for one in members
    ]
    return [masking.mask_traits(row) for row in rows] if is_masked else rows


def show_figures(figures: Figures) -> dict[str, Any]:
    """Return what the members come to; revenue is net of refunds."""
    return {
        "members": figures.members,
        "active_members": figures.active_members,
        "events": figures.events,
        "first_seen": _show_time(figures.first_seen),
        "last_seen": _show_time(figures.last_seen),
        "open_tickets": figures.open_tickets,
        "orders": sum(each.orders for each in figures.sums),
        "net_revenue": [show_money(each.net, each.currency) for each in figures.sums],
        "by_currency": [show_sums(each) for each in figures.sums],
        **show_reported(figures.reported),
    }


def _show_time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
