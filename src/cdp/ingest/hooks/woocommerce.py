"""What WooCommerce sends, as orders, people and requests for deletion. Pure.

https://developer.woocommerce.com/docs/apis/rest-api/v3/ (Orders, Customers, Webhooks). What was
deleted comes with its id alone. A new hook is tried with a form, ``webhook_id=…``, without a
signature. Customers and orders are numbered by each shop for itself: a second shop needs an
``order_scope`` and a ``customer_id_type`` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from cdp.ingest.hooks.delivery import (
    UNKNOWN_TOPIC,
    Delivery,
    Mapped,
    as_list,
    as_object,
    as_text,
    digest,
    name_event,
    name_people,
    read_object,
    with_version,
    without_nothing,
)
from cdp.runtime.clock import format_time, parse_time

CUSTOMER_ID = "woocommerce_customer_id"
_STATUS = {
    "checkout-draft": "pending",
    "pending": "pending",
    "on-hold": "pending",
    "processing": "paid",
    "completed": "completed",
    "refunded": "returned",
    "cancelled": "cancelled",
    "failed": "cancelled",
    "trash": "cancelled",
}


def is_trial(delivery: Delivery) -> bool:
    """Return whether this is the form by which WooCommerce tries a new hook."""
    content_type = delivery.header("content-type").partition(";")[0].strip().lower()
    is_form = content_type in ("", "application/x-www-form-urlencoded")
    name, _, number = delivery.body.strip().partition(b"=")
    return is_form and name == b"webhook_id" and number.isdigit() and len(number) < 20


def map_delivery(delivery: Delivery, settings: Mapping[str, Any]) -> Mapped:
    """Return what a delivery comes to."""
    mapped, topic = Mapped(), delivery.header("x-wc-webhook-topic").lower()
    payload = read_object(delivery.body)
    if isinstance(payload, str):
        return mapped.refuse(delivery, "invalid_json", payload)
    customer_type = str(settings.get("customer_id_type") or CUSTOMER_ID)
    id_field = "number" if settings.get("order_id_from") == "number" else "id"
    if topic in ("order.created", "order.updated", "order.restored"):
        mapped.orders.append(_read_order(payload, delivery, customer_type, id_field))
    elif topic == "order.deleted" and id_field == "id":
        mapped.orders.append(_read_deleted_order(payload, delivery))
    elif topic in ("customer.created", "customer.updated"):
        mapped.events.append(_read_customer(payload, delivery, customer_type))
    elif topic == "customer.deleted":
        mapped.privacy.append(_read_privacy(payload, delivery, customer_type))
    else:
        what = f"nothing is made of the topic {topic!r}" if topic else "there is no topic"
        return mapped.refuse(delivery, UNKNOWN_TOPIC, what)
    return mapped


def _read_order(
    payload: Mapping[str, Any], delivery: Delivery, customer_type: str, id_field: str
) -> dict[str, Any]:
    billing = as_object(payload.get("billing"))
    customer_id = payload.get("customer_id")
    status = as_text(payload.get("status")) or ""
    return with_version(
        without_nothing(
            {
                "order_id": as_text(payload.get(id_field)),
                "placed_at": _read_time(payload, "date_created"),
                "updated_at": _read_time(payload, "date_modified")
                or _read_time(payload, "date_created")
                or delivery.received_at,
                "status": _STATUS.get(status.removeprefix("wc-"), status),
                "currency": as_text(payload.get("currency")),
                "total": payload.get("total"),
                "discount": payload.get("discount_total"),
                "tax": payload.get("total_tax"),
                "shipping": payload.get("shipping_total"),
                "store": urlsplit(delivery.header("x-wc-webhook-source")).netloc,
                "channel": as_text(payload.get("created_via")),
                "identifiers": name_people(
                    # 0 is a guest.
                    (customer_type, customer_id or None),
                    ("email", billing.get("email")),
                    ("phone", billing.get("phone")),
                ),
                "lines": [_read_line(line) for line in as_list(payload.get("line_items"))],
                "refunds": [_read_refund(one) for one in as_list(payload.get("refunds"))],
            }
        )
    )


def _read_time(payload: Mapping[str, Any], name: str) -> str | None:
    """Return a time in UTC; its twin without ``_gmt`` is in the site's zone, unsaid."""
    said = payload.get(f"{name}_gmt")
    time = parse_time(said) if isinstance(said, str) else None
    return None if time is None else format_time(time)


def _read_line(line: Any) -> Any:
    item = as_object(line)
    return without_nothing(
        {
            "sku": as_text(item.get("sku"))
            or as_text(item.get("variation_id") or item.get("product_id") or None),
            "name": as_text(item.get("name")),
            "quantity": item.get("quantity"),
            "price": item.get("price"),
        }
    )


def _read_refund(refund: Any) -> Any:
    """Return a refund: its total is negative."""
    item = as_object(refund)
    return without_nothing(
        {"refund_id": as_text(item.get("id")), "amount": _without_sign(item.get("total"))}
    )


def _without_sign(amount: Any) -> Any:
    try:
        return str(abs(Decimal(str(amount))))
    except InvalidOperation:
        return amount


def _read_deleted_order(payload: Mapping[str, Any], delivery: Delivery) -> dict[str, Any]:
    order_id, name = as_text(payload.get("id")), delivery.header("x-wc-webhook-delivery-id")
    return without_nothing(
        {
            "order_id": order_id,
            "partial": True,
            "status": "cancelled",
            "updated_at": delivery.received_at,
            "messageId": f"deleted-{order_id}-{name}",
        }
    )


def _read_customer(
    payload: Mapping[str, Any], delivery: Delivery, customer_type: str
) -> dict[str, Any]:
    billing = as_object(payload.get("billing"))
    first, last = as_text(payload.get("first_name")), as_text(payload.get("last_name"))
    event = {
        **name_event(name_people((customer_type, payload.get("id") or None))),
        "type": "identify",
        "timestamp": _read_time(payload, "date_modified")
        or _read_time(payload, "date_created")
        or delivery.received_at,
        "traits": without_nothing(
            {
                "email": as_text(payload.get("email")) or as_text(billing.get("email")),
                "phone": as_text(billing.get("phone")),
                "firstName": first,
                "lastName": last,
                "name": " ".join(part for part in (first, last) if part),
                "username": as_text(payload.get("username")),
                "createdAt": _read_time(payload, "date_created"),
                "company": as_text(billing.get("company")),
                "address": without_nothing(
                    {
                        "street": as_text(billing.get("address_1")),
                        "city": as_text(billing.get("city")),
                        "state": as_text(billing.get("state")),
                        "postalCode": as_text(billing.get("postcode")),
                        "country": as_text(billing.get("country")),
                    }
                ),
            }
        ),
    }
    return event | {"messageId": f"customer-{digest(payload)}"}


def _read_privacy(
    payload: Mapping[str, Any], delivery: Delivery, customer_type: str
) -> dict[str, Any]:
    return {
        "kind": "delete",
        "reason": "woocommerce customer.deleted",
        "identifiers": name_people((customer_type, payload.get("id") or None)),
        "messageId": f"privacy-{digest(payload)}",
        "requested_at": delivery.received_at,
    }
