"""What a rule can ask of an order and of its lines. Pure.

Amounts are decimals in major units of the order's own currency.
"""

from __future__ import annotations

from typing import Literal

from cdp.segments.rules import Path

FieldType = Literal["text", "number", "money"]

LINE = "line"
ORDER_FIELDS: dict[str, FieldType] = {
    "order_id": "text",
    "status": "text",
    "currency": "text",
    "store": "text",
    "channel": "text",
    "total": "money",  # net of refunds
    "refunded": "money",
    "discount": "money",
    "tax": "money",
    "shipping": "money",
}
LINE_FIELDS: dict[str, FieldType] = {
    "sku": "text",
    "name": "text",
    "category": "text",
    "quantity": "number",
    "price": "money",
    "total": "money",
}


def find_type(path: Path) -> FieldType | None:
    """Return the type of an order's field, ``("total",)``, or of its lines, ``("line", "sku")``;

    ``None`` when there is no such field.
    """
    match path:
        case (str(name),):
            return ORDER_FIELDS.get(name)
        case ("line", str(name)):
            return LINE_FIELDS.get(name)
        case _:
            return None


def list_fields() -> str:
    """Return the names of all fields, for people."""
    return ", ".join([*ORDER_FIELDS, *(f"{LINE}.{name}" for name in LINE_FIELDS)])
