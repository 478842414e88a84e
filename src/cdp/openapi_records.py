"""The JSON Schemas of posted records, for the OpenAPI document. Data only."""

from __future__ import annotations

from typing import Any

_MONEY = {
    "description": "A decimal in the order's currency, or minor units with their currency.",
    "oneOf": [
        {"type": "number"},
        {"type": "string"},
        {
            "type": "object",
            "required": ["amount", "currency"],
            "properties": {"amount": {"type": "integer"}, "currency": {"type": "string"}},
        },
    ],
}
TIME = {
    "oneOf": [
        {"type": "string", "format": "date-time"},
        {"type": "number", "description": "Seconds, or milliseconds, since 1970."},
    ]
}
_TEXT = {"type": "string"}
_IDENTIFIER = {
    "type": "object",
    "required": ["type", "value"],
    "properties": {"type": _TEXT, "value": {"type": ["string", "integer"]}},
}
_MESSAGE_ID = {
    "type": "string",
    "maxLength": 200,
    "description": "What the same version has whenever it is sent; else made from its content.",
}
_ORDER = {
    "type": "object",
    "description": "The whole order as it stands; the newest `updated_at` counts.",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": ["string", "integer"]},
        "placed_at": TIME,
        "updated_at": TIME,
        "messageId": _MESSAGE_ID,
        "identifiers": {"type": "array", "items": _IDENTIFIER},
        "status": {
            "type": "string",
            "description": "pending, paid, completed, cancelled, returned; others are kept.",
        },
        "currency": {"type": "string", "description": "ISO 4217."},
        **dict.fromkeys(("total", "discount", "tax", "shipping"), _MONEY),
        "store": _TEXT,
        "channel": _TEXT,
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    **dict.fromkeys(("sku", "name", "category"), _TEXT),
                    "quantity": {"type": "number"},
                    "price": _MONEY,
                },
            },
        },
        "partial": {
            "type": "boolean",
            "description": "It says only what it names; the rest of the order stays as it is.",
        },
        "refunds": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"refund_id": _TEXT, "at": TIME, "amount": _MONEY},
            },
        },
    },
}
_ORDERS = {
    "type": "object",
    "required": ["orders"],
    "properties": {
        "orders": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {"$ref": "#/components/schemas/Order"},
        },
        "writeKey": _TEXT,
    },
}
_ACCOUNT = {
    "type": "object",
    "description": "What is to be changed of the account; whatever it does not name stays.",
    "required": ["account_id"],
    "properties": {
        "account_id": {"type": ["string", "integer"]},
        "messageId": _MESSAGE_ID,
        "updated_at": TIME,
        "type": {"type": ["string", "null"], "description": "Such as company or household."},
        "parent_account_id": {"type": ["string", "integer", "null"]},
        "traits": {"type": "object", "description": "null removes one."},
        "members": {
            "type": "array",
            "maxItems": 1000,
            "items": {
                "type": "object",
                "required": ["identifier"],
                "properties": {
                    "identifier": _IDENTIFIER,
                    "role": {"type": ["string", "null"]},
                    "removed": {"type": "boolean", "description": "Ends the membership."},
                },
            },
        },
    },
}
_ACCOUNTS = {
    "type": "object",
    "required": ["accounts"],
    "properties": {
        "accounts": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {"$ref": "#/components/schemas/Account"},
        },
        "writeKey": _TEXT,
    },
}
RECORD_SCHEMAS: dict[str, Any] = {
    "Order": _ORDER,
    "Orders": _ORDERS,
    "Account": _ACCOUNT,
    "Accounts": _ACCOUNTS,
}
