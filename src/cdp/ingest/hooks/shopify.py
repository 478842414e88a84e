"""What Shopify sends, as orders, people and requests for deletion. Pure.

https://shopify.dev/docs/api/webhooks and the resources Order, Refund and Customer of the REST Admin
API. Amounts are those in the shop's own currency. ``total_price`` is before refunds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

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
    readable_time,
    with_version,
    without_nothing,
)

CUSTOMER_ID = "shopify_customer_id"
_ORDER_TOPICS = frozenset(
    f"orders/{event}"
    for event in ("create", "updated", "paid", "cancelled", "fulfilled", "partially_fulfilled")
)
_CUSTOMER_TOPICS = frozenset(
    f"customers/{event}" for event in ("create", "update", "enable", "disable")
)
_PRIVACY_TOPICS = {
    "customers/delete": "delete",
    "customers/redact": "delete",
    "customers/data_request": "export",
}
_CONSENT_TOPICS = frozenset(
    {"customers_email_marketing_consent/update", "customers_marketing_consent/update"}
)
_CONSENTS = {"email_marketing_consent": "marketing", "sms_marketing_consent": "sms_marketing"}
_PENDING = frozenset({"pending", "authorized", "partially_paid", "expired"})


def map_delivery(delivery: Delivery, settings: Mapping[str, Any]) -> Mapped:
    """Return what a delivery comes to."""
    mapped, topic = Mapped(), delivery.header("x-shopify-topic").lower()
    payload = read_object(delivery.body)
    if isinstance(payload, str):
        return mapped.refuse(delivery, "invalid_json", payload)
    customer_type = str(settings.get("customer_id_type") or CUSTOMER_ID)
    by_number = settings.get("order_id_from") == "number"
    if topic in _ORDER_TOPICS:
        mapped.orders.append(read_order(payload, delivery, customer_type, by_number=by_number))
    elif topic == "orders/delete" and not by_number:
        mapped.orders.append(_read_deleted_order(payload, delivery))
    elif topic == "refunds/create" and not by_number:
        mapped.orders.append(_read_refund_alone(payload, delivery))
    elif topic in _CUSTOMER_TOPICS:
        mapped.events += _read_customer(payload, delivery, customer_type)
    elif topic in _CONSENT_TOPICS:
        mapped.events += _read_consent_alone(payload, delivery, customer_type)
    elif topic in _PRIVACY_TOPICS:
        mapped.privacy.append(_read_privacy(payload, delivery, topic, customer_type))
    else:
        what = f"nothing is made of the topic {topic!r}" if topic else "there is no topic"
        if by_number and topic in ("refunds/create", "orders/delete"):
            what = f"{topic} names no order number; orders/updated brings what it says"
        return mapped.refuse(delivery, UNKNOWN_TOPIC, what)
    return mapped


def read_order(
    payload: Mapping[str, Any], delivery: Delivery, customer_type: str, *, by_number: bool = False
) -> dict[str, Any]:
    """Return the order of the published shape that an Order resource is."""
    customer = as_object(payload.get("customer"))
    currency = as_text(payload.get("currency"))
    order_id = payload.get("name" if by_number else "id")
    if by_number and isinstance(order_id, str):
        order_id = order_id.removeprefix("#")
    return with_version(
        without_nothing(
            {
                "order_id": as_text(order_id),
                "placed_at": readable_time(
                    payload.get("processed_at"), readable_time(payload.get("created_at"))
                ),
                "updated_at": _find_time(payload, delivery),
                "status": _find_status(payload),
                "currency": currency,
                "total": payload.get("total_price"),
                "discount": payload.get("total_discounts"),
                "tax": payload.get("total_tax"),
                "shipping": _find_shipping(payload),
                "store": as_text(payload.get("location_id"))
                or delivery.header("x-shopify-shop-domain"),
                "channel": as_text(payload.get("source_name")),
                "identifiers": name_people(
                    (customer_type, customer.get("id")),
                    ("email", customer.get("email") or payload.get("email")),
                    ("phone", customer.get("phone") or payload.get("phone")),
                ),
                "lines": [_read_line(line) for line in as_list(payload.get("line_items"))],
                "refunds": [
                    _read_refund(refund, currency) for refund in as_list(payload.get("refunds"))
                ],
            }
        )
    )


def _find_time(payload: Mapping[str, Any], delivery: Delivery) -> str:
    triggered = readable_time(delivery.header("x-shopify-triggered-at"), delivery.received_at)
    return readable_time(payload.get("updated_at"), triggered) or delivery.received_at


def _find_status(payload: Mapping[str, Any]) -> str:
    paid = payload.get("financial_status")
    if payload.get("cancelled_at") or paid == "voided":
        return "cancelled"
    if paid == "refunded":
        return "returned"
    if paid in _PENDING:
        return "pending"
    return "completed" if payload.get("fulfillment_status") == "fulfilled" else "paid"


def _find_shipping(payload: Mapping[str, Any]) -> Any:
    said = _shop_money(payload.get("total_shipping_price_set"))
    if said is not None:
        return said
    lines = as_list(payload.get("shipping_lines"))
    prices = [_decimal(as_object(line).get("price")) for line in lines]
    return str(sum(prices, Decimal(0))) if prices else None


def _read_line(line: Any) -> Any:
    item = as_object(line)
    return without_nothing(
        {
            "sku": as_text(item.get("sku"))
            or as_text(item.get("variant_id") or item.get("product_id")),
            "name": as_text(item.get("name") or item.get("title")),
            "category": as_text(item.get("product_type")),
            "quantity": item.get("quantity"),
            "price": item.get("price"),
        }
    )


def _read_refund(refund: Any, currency: str | None) -> Any:
    """Return a refund: what its transactions gave back, in the shop's currency."""
    item = as_object(refund)
    return without_nothing(
        {
            "refund_id": as_text(item.get("id")),
            "at": readable_time(item.get("processed_at"), readable_time(item.get("created_at"))),
            "amount": str(_sum_refund(item, currency)),
        }
    )


def _sum_refund(refund: Mapping[str, Any], currency: str | None) -> Decimal:
    given = [
        transaction
        for transaction in map(as_object, as_list(refund.get("transactions")))
        if transaction.get("kind") == "refund" and transaction.get("status") == "success"
    ]
    total = Decimal(0)
    for transaction in given:
        own = as_text(transaction.get("currency"))
        if currency is not None and own is not None and own != currency:
            # What the buyer sees is in another currency; the shop's stands at the goods.
            return _sum_goods(refund)
        total += _decimal(transaction.get("amount"))
    return total


def _sum_goods(refund: Mapping[str, Any]) -> Decimal:
    total = Decimal(0)
    for line in map(as_object, as_list(refund.get("refund_line_items"))):
        total += _decimal(_shop_money(line.get("subtotal_set")) or line.get("subtotal"))
        total += _decimal(_shop_money(line.get("total_tax_set")) or line.get("total_tax"))
    for adjustment in map(as_object, as_list(refund.get("order_adjustments"))):
        # Money given back is negative here.
        total -= _decimal(_shop_money(adjustment.get("amount_set")) or adjustment.get("amount"))
        total -= _decimal(_shop_money(adjustment.get("tax_amount_set")))
    return total


def _read_refund_alone(payload: Mapping[str, Any], delivery: Delivery) -> dict[str, Any]:
    """Return what a refund says of its order, and nothing else of the order."""
    currency = _find_shop_currency(payload)
    order = {
        "order_id": as_text(payload.get("order_id")),
        "partial": True,
        "updated_at": readable_time(
            payload.get("created_at"), readable_time(payload.get("processed_at"))
        )
        or delivery.received_at,
        "currency": currency,
        "refunds": [_read_refund(payload, currency)],
    }
    return with_version(without_nothing(order))


def _find_shop_currency(refund: Mapping[str, Any]) -> str | None:
    for name, part in (("refund_line_items", "subtotal_set"), ("order_adjustments", "amount_set")):
        for item in map(as_object, as_list(refund.get(name))):
            money = as_object(as_object(item.get(part)).get("shop_money"))
            if currency := as_text(money.get("currency_code")):
                return currency
    currencies = (as_object(t).get("currency") for t in as_list(refund.get("transactions")))
    return next((text for c in currencies if (text := as_text(c))), None)


def _read_deleted_order(payload: Mapping[str, Any], delivery: Delivery) -> dict[str, Any]:
    order = {
        "order_id": as_text(payload.get("id")),
        "partial": True,
        "status": "cancelled",
        "updated_at": readable_time(
            delivery.header("x-shopify-triggered-at"), delivery.received_at
        ),
    }
    name = delivery.header("x-shopify-event-id") or delivery.header("x-shopify-webhook-id")
    return without_nothing(order | {"messageId": f"deleted-{order['order_id']}-{name}"})


def _read_customer(
    payload: Mapping[str, Any], delivery: Delivery, customer_type: str
) -> list[dict[str, Any]]:
    customer_id, at = as_text(payload.get("id")), _find_time(payload, delivery)
    named = name_event(name_people((customer_type, customer_id)))
    identify = {
        **named,
        "type": "identify",
        "timestamp": at,
        "traits": _read_traits(payload),
    }
    consents: list[dict[str, Any]] = []
    for purpose, granted, said_at in _list_consents(payload):
        if said_at is None or said_at == at:
            _add_consent(identify, purpose, granted)
        else:
            # An update repeats an old consent: dated anew, it would undo a refusal made since.
            consents.append(_state_consent(customer_type, customer_id, purpose, granted, said_at))
    identify["messageId"] = f"customer-{digest(identify)}"
    return [identify, *consents]


def _read_traits(payload: Mapping[str, Any]) -> dict[str, Any]:
    first, last = as_text(payload.get("first_name")), as_text(payload.get("last_name"))
    address = as_object(payload.get("default_address"))
    tags = payload.get("tags")
    return without_nothing(
        {
            "email": as_text(payload.get("email")),
            "phone": as_text(payload.get("phone")),
            "firstName": first,
            "lastName": last,
            "name": " ".join(part for part in (first, last) if part),
            "createdAt": readable_time(payload.get("created_at")),
            "tags": [t for t in map(str.strip, tags.split(",")) if t]
            if isinstance(tags, str)
            else None,
            "address": without_nothing(
                {
                    "street": as_text(address.get("address1")),
                    "city": as_text(address.get("city")),
                    "state": as_text(address.get("province")),
                    "postalCode": as_text(address.get("zip")),
                    "country": as_text(address.get("country_code") or address.get("country")),
                }
            ),
        }
    )


def _list_consents(payload: Mapping[str, Any]) -> Sequence[tuple[str, bool, str | None]]:
    found: list[tuple[str, bool, str | None]] = []
    for name, purpose in _CONSENTS.items():
        consent = as_object(payload.get(name))
        at = readable_time(consent.get("consent_updated_at"))
        granted = _is_granted(consent.get("state"), at)
        if granted is not None:
            found.append((purpose, granted, at))
    accepts = payload.get("accepts_marketing")
    if isinstance(accepts, bool) and not payload.get("email_marketing_consent"):
        at = readable_time(payload.get("accepts_marketing_updated_at"))
        found.append(("marketing", accepts, at))
    return found


def _is_granted(state: Any, at: str | None) -> bool | None:
    """``pending`` waits for the second opt-in; who was never asked has said nothing."""
    if state == "subscribed":
        return True
    if state == "not_subscribed":
        return None if at is None else False
    return False if state in ("unsubscribed", "pending") else None


def _read_consent_alone(
    payload: Mapping[str, Any], delivery: Delivery, customer_type: str
) -> list[dict[str, Any]]:
    customer_id = as_text(payload.get("customer_id"))
    at = _find_time(payload, delivery)
    return [
        _state_consent(customer_type, customer_id, purpose, granted, said_at or at)
        for purpose, granted, said_at in _list_consents(payload)
    ]


def _state_consent(
    customer_type: str, customer_id: str | None, purpose: str, granted: bool, at: str
) -> dict[str, Any]:
    event = {
        **name_event(name_people((customer_type, customer_id))),
        "type": "identify",
        "timestamp": at,
    }
    _add_consent(event, purpose, granted)
    event["messageId"] = f"consent-{digest(event)}"
    return event


def _add_consent(event: dict[str, Any], purpose: str, granted: bool) -> None:
    context = event.setdefault("context", {})
    context.setdefault("consent", {}).setdefault("categoryPreferences", {})[purpose] = granted


def _read_privacy(
    payload: Mapping[str, Any], delivery: Delivery, topic: str, customer_type: str
) -> dict[str, Any]:
    customer = as_object(payload.get("customer")) or payload
    return {
        "kind": _PRIVACY_TOPICS[topic],
        "reason": f"shopify {topic}",
        "identifiers": name_people(
            (customer_type, customer.get("id")),
            ("email", customer.get("email")),
            ("phone", customer.get("phone")),
        ),
        "messageId": f"privacy-{digest(payload)}",
        "requested_at": delivery.received_at,
    }


def _shop_money(value: Any) -> str | None:
    return as_text(as_object(as_object(value).get("shop_money")).get("amount"))


def _decimal(value: Any) -> Decimal:
    try:
        number = Decimal(str(value)) if value is not None else Decimal(0)
    except InvalidOperation:
        return Decimal(0)
    return number if number.is_finite() else Decimal(0)
