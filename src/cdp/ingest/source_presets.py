"""What each type of source may do unless its settings say otherwise. Pure.

A key that lies in the open (web, app) may tie an anonymous visitor to a person, never two people
that are known already: anybody can read such a key, and could name a stranger beside themselves.
All other types are systems of one's own, whose word on identifiers and time is taken as said.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cdp.model import PUBLIC_SOURCE_TYPES, SOURCE_TYPES, SourceType

_TELLS = {
    "web": "browsers: anonymous_id, user_id, email, phone",
    "app": "mobile apps: anonymous_id, user_id, device_id, idfa, gaid",
    "server": "back ends: user_id and whatever they know",
    "store": "tills: member_card, phone, orders with a store",
    "crm": "contacts: crm_id, email, phone",
    "erp": "customers and accounts: erp_id, account_id",
    "service": "tickets, calls, NPS: user_id, email, phone",
    "shop": "shop systems, by hook or key: the shop's customer id, email, phone, orders",
}


def _make_preset(type_name: SourceType) -> Mapping[str, Any]:
    is_public = type_name in PUBLIC_SOURCE_TYPES
    return MappingProxyType(
        {
            "tells": _TELLS[type_name],
            "links": "anonymous" if is_public else "known",
            "trusted_times": not is_public,
            "identifier_types": None,
            "identifier_scope": None,
            "previous_id_type": "anonymous_id",
            "default_consent": {},
            "rate_limit": None,
        }
    )


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {name: _make_preset(name) for name in SOURCE_TYPES}
)
"""Type of source → what holds for it.

``links``: ``anonymous`` or ``known``, what its events may tie together. ``trusted_times``: whether
its clock is taken at its word. ``identifier_types``: the types it may bring, ``None`` for any.
``identifier_scope``: the system whose numbers it brings, ``None`` for one numbering of all sources.
``previous_id_type``: what an alias's previousId is.
``default_consent``: what its people are taken to agree to while nobody has said anything.
``rate_limit``: events per second, ``None`` for the server's own limit.
"""


def show_preset(type_name: SourceType) -> dict[str, Any]:
    """Return the preset of a type as JSON."""
    return dict(PRESETS[type_name])


def show_effective(type_name: SourceType, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds for a source: its settings over the preset of its type."""
    preset = show_preset(type_name)
    del preset["tells"]
    return preset | dict(settings)
