"""What Youzan (有赞) pushes, as orders and people. Pure.

https://doc.youzanyun.com/resource/develop-guide/41355: the envelope names a ``type``; ``msg`` is
JSON, percent-encoded once more. A trade that was created or paid comes whole (``full_order_info``),
its later fate as a few fields only. Messages come in no order, and ``version`` orders those of one
type only, so the times in them decide. Amounts are yuan, times are China's. Personal values may
come encrypted (``$…$1$``): then they name nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote_plus

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

CUSTOMER_ID = "youzan_open_id"
_CHINA = timezone(timedelta(hours=8))
_ENCRYPTED = re.compile(r"^\$.+\$\d+\$$")
_STATUS = {
    "WAIT_BUYER_PAY": "pending",
    "WAIT_PAY_RETURN": "pending",
    "WAIT_GROUP": "paid",
    "WAIT_CONFIRM": "paid",
    "TRADE_PAID": "paid",
    "WAIT_SELLER_SEND_GOODS": "paid",
    "WAIT_BUYER_CONFIRM_GOODS": "paid",
    "TRADE_BUYER_SIGNED": "completed",
    "TRADE_SUCCESS": "completed",
    "TRADE_CLOSED": "cancelled",
    "TRADE_CLOSE": "cancelled",
}
_FATES = {
    "trade_TradeSuccess": "completed",
    "trade_TradeClose": "cancelled",
    "trade_TradeSellerShip": "paid",
    "trade_TradePartlySellerShip": "paid",
}
_REFUNDS = frozenset({"trade_refund_RefundSuccess", "trade_refund_SysRefund"})
_LOGINS = frozenset({"SCRM_CUSTOMER_AUTH_MOBILE", "OPEN_PUSH_SCRM_CUSTOMER_AUTH_MOBILE"})


def map_delivery(delivery: Delivery, settings: Mapping[str, Any]) -> Mapped:
    """Return what a message comes to."""
    mapped = Mapped()
    envelope = read_object(delivery.body)
    if isinstance(envelope, str):
        return mapped.refuse(delivery, "invalid_json", envelope)
    if envelope.get("test") is True and not envelope.get("msg"):
        return mapped
    topic = as_text(envelope.get("type")) or delivery.header("event-type")
    message = _open_message(envelope)
    if message is None:
        return mapped.refuse(delivery, "invalid_json", "`msg` is no percent-encoded JSON object")
    customer_type = str(settings.get("customer_id_type") or CUSTOMER_ID)
    if as_object(message.get("full_order_info")):
        mapped.orders.append(_read_order(message, envelope, delivery, customer_type))
    elif topic in _FATES:
        mapped.orders.append(_read_fate(message, envelope, delivery, _FATES[topic]))
    elif topic in _REFUNDS:
        mapped.orders.append(_read_refund(message, envelope, delivery))
    elif topic in _LOGINS:
        mapped.events.append(_read_login(message, delivery, customer_type))
    else:
        what = f"nothing is made of the type {topic!r}" if topic else "there is no type"
        return mapped.refuse(delivery, UNKNOWN_TOPIC, what)
    return mapped


def _open_message(envelope: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return ``msg``, or the body itself for the newer messages that have none."""
    said = envelope.get("msg")
    if said is None:
        return envelope
    if isinstance(said, dict):
        return said
    if not isinstance(said, str):
        return None
    for text in (unquote_plus(said), said):
        try:
            # Numbers as they are written: a trade's id may have more digits than a float.
            message = json.loads(text, parse_float=str)
        except (ValueError, RecursionError):
            continue
        return message if isinstance(message, dict) else None
    return None


def _read_order(
    message: Mapping[str, Any],
    envelope: Mapping[str, Any],
    delivery: Delivery,
    customer_type: str,
) -> dict[str, Any]:
    whole = as_object(message.get("full_order_info"))
    info, paid = as_object(whole.get("order_info")), as_object(whole.get("pay_info"))
    buyer, source = as_object(whole.get("buyer_info")), as_object(whole.get("source_info"))
    status = as_text(info.get("status")) or as_text(envelope.get("status")) or ""
    return with_version(
        without_nothing(
            {
                "order_id": as_text(info.get("tid")) or as_text(envelope.get("id")),
                "placed_at": _read_time(info.get("created")),
                "updated_at": _find_time(info, envelope, delivery),
                "status": _STATUS.get(status, status.lower()),
                "currency": "CNY",
                "total": paid.get("payment"),
                "discount": _find_discount(paid),
                "shipping": paid.get("post_fee"),
                "store": as_text(info.get("shop_name"))
                or as_text(envelope.get("kdt_name"))
                or as_text(envelope.get("kdt_id")),
                "channel": "store" if source.get("is_offline_order") is True else "online",
                "identifiers": name_people(
                    (customer_type, buyer.get("yz_open_id")),
                    ("wechat_openid", _readable(buyer.get("outer_user_id"))),
                    ("phone", _readable_phone(buyer.get("buyer_phone"))),
                ),
                "lines": [_read_line(line) for line in as_list(whole.get("orders"))],
            }
        )
    )


def _find_discount(paid: Mapping[str, Any]) -> str | None:
    """Return what the goods and their postage cost more than was paid."""
    try:
        goods, post, payment = (
            Decimal(str(paid[name])) for name in ("total_fee", "post_fee", "payment")
        )
        discount = goods + post - payment
    except (KeyError, InvalidOperation):
        return None
    return str(discount) if discount.is_finite() and discount > 0 else None


def _read_line(line: Any) -> Any:
    item = as_object(line)
    sku = next(
        (
            text
            for name in ("outer_sku_id", "outer_item_id", "sku_no", "sku_id", "item_id")
            if (text := as_text(item.get(name))) and text != "0"
        ),
        None,
    )
    return without_nothing(
        {
            "sku": sku,
            "name": as_text(item.get("title")),
            "quantity": item.get("num"),
            "price": item.get("price"),
        }
    )


def _read_fate(
    message: Mapping[str, Any], envelope: Mapping[str, Any], delivery: Delivery, status: str
) -> dict[str, Any]:
    return with_version(
        without_nothing(
            {
                "order_id": as_text(message.get("tid")) or as_text(envelope.get("id")),
                "partial": True,
                "status": status,
                "currency": "CNY",
                "updated_at": _find_time(message, envelope, delivery),
            }
        )
    )


def _read_refund(
    message: Mapping[str, Any], envelope: Mapping[str, Any], delivery: Delivery
) -> dict[str, Any]:
    at = _find_time(message, envelope, delivery)
    refund = without_nothing(
        {
            "refund_id": as_text(message.get("refund_id")),
            "at": at,
            "amount": message.get("refunded_fee"),
        }
    )
    return with_version(
        without_nothing(
            {
                "order_id": as_text(message.get("tid")) or as_text(envelope.get("id")),
                "partial": True,
                "currency": "CNY",
                "updated_at": at,
                "refunds": [refund],
            }
        )
    )


def _read_login(
    message: Mapping[str, Any], delivery: Delivery, customer_type: str
) -> dict[str, Any]:
    event = {
        **name_event(name_people((customer_type, message.get("yz_open_id")))),
        "type": "identify",
        "timestamp": delivery.received_at,
        "traits": without_nothing({"phone": _readable_phone(message.get("mobile"))}),
    }
    return event | {"messageId": f"customer-{digest(message)}"}


def _find_time(message: Mapping[str, Any], envelope: Mapping[str, Any], delivery: Delivery) -> str:
    said = _read_time(message.get("update_time"))
    if said is not None:
        return said
    version = envelope.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and 0 < version < 10**11:
        return format_time(datetime.fromtimestamp(version, _CHINA))
    return delivery.received_at


def _read_time(value: Any) -> str | None:
    """Read a time that is China's when it names no zone of its own."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if time is None:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=_CHINA)
    read = parse_time(time.isoformat())
    return None if read is None else format_time(read)


def _readable(value: Any) -> str | None:
    text = as_text(value)
    return None if text is None or _ENCRYPTED.match(text) else text


def _readable_phone(value: Any) -> str | None:
    text = _readable(value)
    # Elsewhere than in China it would be read as a number of that country.
    return f"+86{text}" if text and len(text) == 11 and text.isdigit() else text
