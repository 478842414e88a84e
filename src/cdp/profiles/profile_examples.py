"""What answers about people look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

PROFILE_EXAMPLE: dict[str, Any] = {
    "id": "prf_01J9ZQ4T8W",
    "asked_as": "email:ann@example.com",
    "redirected_from": None,
    "identifiers": [
        {
            "type": "user_id",
            "value": "42",
            "first_seen": "2026-03-01T08:00:00.000Z",
            "last_seen": "2026-03-05T17:00:00.000Z",
            "sources": ["web"],
        }
    ],
    "traits": {"name": "安妮", "plan": "pro"},
    "first_seen": "2026-03-01T08:00:00.000Z",
    "last_seen": "2026-03-05T17:00:00.000Z",
    "events": 812,
    "orders": 7,
    "net_revenue": [{"amount": 129900, "currency": "CNY"}],
    "consent": {
        "marketing": {"granted": False, "at": "2026-03-04T09:00:00.000Z", "source": "shop"}
    },
    "version": 31,
    "accounts": [{"account_id": "acme", "role": "buyer"}],
    "first_touch": None,
    "last_touch": None,
}

LOOKUP_EXAMPLE: dict[str, Any] = {
    "data": [
        {"type": "email", "value": "ann@example.com", "profile_id": "prf_01J9ZQ4T8W"},
        {"type": "user_id", "value": "nobody", "profile_id": None},
    ],
    "next": None,
}
"""Of identifiers of which one leads to nobody."""

SEARCH_EXAMPLE: dict[str, Any] = {"data": [PROFILE_EXAMPLE], "next": None}
