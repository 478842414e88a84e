"""The fields that a column may become, per kind of row. Pure."""

from __future__ import annotations

from typing import Literal

Kind = Literal["events", "profiles", "orders", "accounts"]
KINDS: tuple[Kind, ...] = ("events", "profiles", "orders", "accounts")

_CALL = frozenset(
    {"userId", "anonymousId", "messageId", "timestamp", "originalTimestamp", "sentAt"}
)
FIELDS: dict[Kind, frozenset[str]] = {
    "events": _CALL | {"type", "event", "name", "category", "groupId", "previousId"},
    "profiles": _CALL,
    "orders": frozenset(
        {
            "order_id", "placed_at", "updated_at", "status", "currency", "total", "discount",
            "tax", "shipping", "store", "channel", "messageId",
        }
    ),
    "accounts": frozenset(
        {"account_id", "type", "parent_account_id", "updated_at", "messageId"}
    ),
}  # fmt: skip
"""Fields that hold one value."""

PREFIXES: dict[Kind, frozenset[str]] = {
    "events": frozenset({"properties", "traits", "context", "integrations"}),
    "profiles": frozenset({"traits", "context", "integrations"}),
    "orders": frozenset(),
    "accounts": frozenset({"traits"}),
}
"""Objects that take any name, nested by dots."""

PARTS: dict[Kind, dict[str, frozenset[str]]] = {
    "events": {},
    "profiles": {},
    "orders": {
        "lines": frozenset({"sku", "name", "category", "quantity", "price"}),
        "refunds": frozenset({"refund_id", "at", "amount"}),
    },
    "accounts": {"members": frozenset({"role"})},
}
"""Lists to which every row adds one element."""

OBJECTS: dict[Kind, frozenset[str]] = {
    "events": PREFIXES["events"],
    "profiles": PREFIXES["profiles"] | {"identifiers"},
    "orders": frozenset({"lines", "refunds", "identifiers"}),
    "accounts": frozenset({"traits", "members"}),
}
"""Wire fields that hold an object or a list; in a CSV file their cells are JSON."""

TIMES = frozenset({"timestamp", "originalTimestamp", "sentAt", "placed_at", "updated_at"})
ROW_ID: dict[Kind, str | None] = {
    "events": None,
    "profiles": None,
    "orders": "order_id",
    "accounts": "account_id",
}
"""The field by which rows of one order or account are recognised."""

ALIASES = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "message_id": "messageId",
    "group_id": "groupId",
    "previous_id": "previousId",
    "original_timestamp": "originalTimestamp",
    "sent_at": "sentAt",
}
"""Spellings of wire fields that tables use."""

_LONGEST = 300


def check_target(kind: Kind, target: str) -> str | None:
    """Return what is wrong with ``target``, ``None`` when rows of ``kind`` can have it."""
    head, dot, rest = target.partition(".")
    if len(target) > _LONGEST or (dot and not all(rest.split("."))):
        return f"{target[:50]!r} is no path such as traits.city"
    if not dot:
        if head in FIELDS[kind]:
            return None
        return f"{head!r} is no field of {kind}: {_list_targets(kind)}"
    if head in PREFIXES[kind]:
        return None
    if head == "identifiers" and kind != "accounts":
        return None
    if head == "consent" and kind in ("events", "profiles"):
        return None
    parts = PARTS[kind].get(head)
    if parts is not None and (rest in parts or (head == "members" and _names_member(rest))):
        return None
    return f"{target!r} is no field of {kind}: {_list_targets(kind)}"


def _names_member(rest: str) -> bool:
    first, _, kind = rest.partition(".")
    return first == "identifiers" and bool(kind)


def _list_targets(kind: Kind) -> str:
    names = sorted(FIELDS[kind]) + [f"{prefix}.…" for prefix in sorted(PREFIXES[kind])]
    names += [f"{part}.{name}" for part, own in PARTS[kind].items() for name in sorted(own)]
    if kind == "accounts":
        names.append("members.identifiers.…")
    else:
        names.append("identifiers.…")
    if kind in ("events", "profiles"):
        names.append("consent.…")
    return ", ".join(names)
