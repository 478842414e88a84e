"""Shops that send hooks: payloads of the published shapes, signed as the shops sign them.

The signatures are computed with openssl's words for the algorithms, apart from the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

SECRET = "shpss_0123456789 ü"


def to_body(payload: Any) -> bytes:
    """Write a payload as PHP and Ruby do: escaped, with spaces."""
    return json.dumps(payload).encode()


def sign_base64(body: bytes, secret: str = SECRET) -> str:
    """Sign as Shopify and WooCommerce do."""
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def sign_hex(body: bytes, secret: str = SECRET) -> str:
    """Sign as custom hooks are signed."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def shopify_headers(body: bytes, topic: str, **more: str) -> dict[str, str]:
    """Return the headers of a delivery of Shopify."""
    return {
        "Content-Type": "application/json",
        "X-Shopify-Topic": topic,
        "X-Shopify-Hmac-Sha256": sign_base64(body),
        "X-Shopify-Shop-Domain": "teahouse.myshopify.com",
        "X-Shopify-Webhook-Id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
        "X-Shopify-Event-Id": "98880550-7158-44d4-b7cd-2c97c8a091b5",
        "X-Shopify-API-Version": "2026-07",
        **more,
    }


def woo_headers(body: bytes, topic: str, **more: str) -> dict[str, str]:
    """Return the headers of a delivery of WooCommerce."""
    return {
        "Content-Type": "application/json",
        "X-WC-Webhook-Source": "https://tee.example/",
        "X-WC-Webhook-Topic": topic,
        "X-WC-Webhook-Resource": topic.partition(".")[0],
        "X-WC-Webhook-Event": topic.partition(".")[2],
        "X-WC-Webhook-Signature": sign_base64(body),
        "X-WC-Webhook-ID": "3",
        "X-WC-Webhook-Delivery-ID": "a1b2c3",
        **more,
    }


def shopify_order(**changes: Any) -> dict[str, Any]:
    """Return an Order resource of Shopify's REST Admin API."""
    return {
        "id": 6_100_000_000_001,
        "admin_graphql_api_id": "gid://shopify/Order/6100000000001",
        "name": "#1001",
        "order_number": 1001,
        "email": "An.Ni@example.com",
        "phone": None,
        "created_at": "2026-03-01T16:00:00+08:00",
        "processed_at": "2026-03-01T15:59:58+08:00",
        "updated_at": "2026-03-01T16:00:05+08:00",
        "cancelled_at": None,
        "currency": "CNY",
        "presentment_currency": "CNY",
        "financial_status": "paid",
        "fulfillment_status": None,
        "total_price": "1299.00",
        "total_discounts": "100.00",
        "total_tax": "74.00",
        "total_shipping_price_set": {
            "shop_money": {"amount": "12.50", "currency_code": "CNY"},
            "presentment_money": {"amount": "12.50", "currency_code": "CNY"},
        },
        "location_id": None,
        "source_name": "web",
        "customer": {
            "id": 7_700_000_000_007,
            "email": "an.ni@example.com",
            "phone": "+8613800138000",
            "first_name": "妮",
            "last_name": "安",
        },
        "line_items": [
            {"id": 1, "sku": "TEA-龙井", "title": "龙井", "name": "龙井 - 250g", "quantity": 2,
             "price": "643.25", "variant_id": 44, "product_id": 33},
            {"id": 2, "sku": "", "title": "Cup", "name": "Cup", "quantity": 1, "price": "0.00",
             "variant_id": 45, "product_id": 34},
        ],
        "refunds": [],
        **changes,
    }  # fmt: skip


def shopify_refund(**changes: Any) -> dict[str, Any]:
    """Return a Refund resource of Shopify's REST Admin API."""
    return {
        "id": 900_001,
        "order_id": 6_100_000_000_001,
        "created_at": "2026-03-03T10:00:00+08:00",
        "processed_at": "2026-03-03T10:00:00+08:00",
        "refund_line_items": [
            {
                "id": 1,
                "quantity": 1,
                "subtotal": 90.0,
                "subtotal_set": {"shop_money": {"amount": "90.00", "currency_code": "CNY"}},
                "total_tax_set": {"shop_money": {"amount": "9.00", "currency_code": "CNY"}},
            }
        ],
        "order_adjustments": [],
        "transactions": [
            {"id": 5, "kind": "refund", "status": "success", "amount": "99.00", "currency": "CNY"},
            {"id": 6, "kind": "refund", "status": "failure", "amount": "99.00", "currency": "CNY"},
        ],
        **changes,
    }


def shopify_customer(**changes: Any) -> dict[str, Any]:
    """Return a Customer resource of Shopify's REST Admin API."""
    return {
        "id": 7_700_000_000_007,
        "email": "an.ni@example.com",
        "phone": "+8613800138000",
        "first_name": "妮",
        "last_name": "安",
        "created_at": "2026-02-01T00:00:00Z",
        "updated_at": "2026-03-02T00:00:00Z",
        "tags": "vip, 茶友",
        "email_marketing_consent": {
            "state": "subscribed",
            "opt_in_level": "single_opt_in",
            "consent_updated_at": "2026-02-01T00:00:00Z",
        },
        "sms_marketing_consent": {
            "state": "not_subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": None,
        },
        "default_address": {"address1": "南京西路 1", "city": "上海", "zip": ""},
        **changes,
    }  # fmt: skip


def woo_order(**changes: Any) -> dict[str, Any]:
    """Return an order of WooCommerce's REST API, version 3."""
    return {
        "id": 727,
        "number": "A-727",
        "status": "processing",
        "currency": "JPY",
        "date_created": "2026-03-22T16:28:02",
        "date_created_gmt": "2026-03-22T07:28:02",
        "date_modified": "2026-03-22T16:28:08",
        "date_modified_gmt": "2026-03-22T07:28:08",
        "discount_total": "200",
        "shipping_total": "800",
        "total_tax": "300",
        "total": "3300",
        "customer_id": 25,
        "created_via": "checkout",
        "billing": {"email": "hanako@example.jp", "phone": "+819012345678", "first_name": "花子"},
        "line_items": [
            {"id": 315, "name": "抹茶", "product_id": 93, "variation_id": 0, "quantity": 2,
             "sku": "matcha-30", "price": 1200.0, "total": "2400"},
        ],
        "refunds": [],
        **changes,
    }  # fmt: skip


def youzan_message(
    kind: str, message: dict[str, Any], *, client_id: str = "c1a2b3", **changes: Any
) -> bytes:
    """Return a message of Youzan's: ``msg`` is JSON, percent-encoded."""
    encoded = quote(json.dumps(message, ensure_ascii=False), safe="")
    old_sign = hashlib.md5(f"{client_id}{encoded}{SECRET}".encode()).hexdigest()
    return json.dumps(
        {
            "client_id": client_id,
            "id": "E20260301163000068500001",
            "kdt_id": 98765,
            "kdt_name": "茶馆",
            "msg_id": "6ba6c0f2-0000-4a5c-9d1d-6f2f4d1c2b3a",
            "sendCount": 1,
            "type": kind,
            "version": 1772353800,
            "msg": encoded,
            "sign": old_sign,
            **changes,
        }
    ).encode()


def youzan_headers(body: bytes, kind: str, *, client_id: str = "c1a2b3") -> dict[str, str]:
    """Return the headers of a message of Youzan's."""
    signed = client_id.encode() + body + SECRET.encode()
    return {
        "Content-Type": "application/json",
        "Event-Sign": hashlib.md5(signed).hexdigest(),
        "Event-Type": kind,
        "Client-Id": client_id,
    }


def youzan_trade(**changes: Any) -> dict[str, Any]:
    """Return the ``msg`` of a trade that was created or paid."""
    return {
        "full_order_info": {
            "order_info": {
                "tid": "E20260301163000068500001",
                "status": "WAIT_SELLER_SEND_GOODS",
                "created": "2026-03-01 16:29:00",
                "pay_time": "2026-03-01 16:29:40",
                "update_time": "2026-03-01 16:30:00",
                "shop_name": "静安店",
            },
            "pay_info": {"total_fee": "281.70", "post_fee": "8.00", "payment": "139.14"},
            "buyer_info": {
                "yz_open_id": "yz-open-1",
                "buyer_phone": "13800138000",
                "outer_user_id": "wx-open-1",
            },
            "source_info": {"is_offline_order": False},
            "orders": [
                {"oid": "1", "title": "白茶", "num": 3, "price": "93.90", "outer_sku_id": "WHITE"}
            ],
            **changes,
        }
    }
