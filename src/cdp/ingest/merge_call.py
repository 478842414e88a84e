"""RudderStack's merge call: identifiers that are one person's, beside its ``userId``. Pure.

``{"userId": "42", "mergeProperties": [{"type": "email", "value": "…"}, {"type": "mobile", …}]}``,
posted to ``/v1/merge`` or as ``"type": "merge"`` in a batch. RudderStack gave it up in 2025, and
clients that have it still send it. It is read as an alias that carries these identifiers.
"""

from __future__ import annotations

_OUR_TYPES = {"mobile": "phone"}


def list_merged(properties: object) -> list[tuple[str, object]]:
    """Return the (type, value) claims in ``mergeProperties``; what is no pair is passed over."""
    if not isinstance(properties, list):
        return []
    claims: list[tuple[str, object]] = []
    for one in properties:
        if not isinstance(one, dict):
            continue
        kind, value = one.get("type"), one.get("value")
        if isinstance(kind, str) and isinstance(value, str | int) and not isinstance(value, bool):
            claims.append((_OUR_TYPES.get(kind, kind), value))
    return claims
