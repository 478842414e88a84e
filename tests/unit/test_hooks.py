"""What shops send, turned into orders, people and requests for deletion; and who signed it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.ingest.hooks.delivery import Delivery, Mapped
from cdp.ingest.hooks.presets import HOOKS
from cdp.ingest.hooks.signature import is_signed
from cdp.ingest.hooks.woocommerce import is_trial
from cdp.orders.order_record import OrderRecord, read_order
from cdp.runtime.clock import parse_time
from tests.support import shops

RECEIVED = "2026-04-01T00:00:00.000Z"


def deliver(body: bytes, headers: dict[str, str]) -> Delivery:
    return Delivery({name.lower(): value for name, value in headers.items()}, body, RECEIVED)


def from_shopify(topic: str, payload: Any, **settings: Any) -> Mapped:
    body = shops.to_body(payload)
    return HOOKS["shopify"](deliver(body, shops.shopify_headers(body, topic)), settings)


def from_woo(topic: str, payload: Any, **settings: Any) -> Mapped:
    body = shops.to_body(payload)
    return HOOKS["woocommerce"](deliver(body, shops.woo_headers(body, topic)), settings)


def from_youzan(kind: str, message: Any, **changes: Any) -> Mapped:
    body = shops.youzan_message(kind, message, **changes)
    return HOOKS["youzan"](deliver(body, shops.youzan_headers(body, kind)), {})


def as_record(document: dict[str, Any]) -> OrderRecord:
    received_at = parse_time(RECEIVED)
    assert received_at is not None
    read = read_order(
        json.loads(json.dumps(document)),
        place="x",
        received_at=received_at,
        default_currency="EUR",
    )
    assert isinstance(read, OrderRecord), read
    return read


def test_an_order_of_shopify_is_an_order_of_ours_to_the_last_fen() -> None:
    (document,) = from_shopify("orders/create", shops.shopify_order()).orders
    record = as_record(document)
    report = record.report
    assert report.order_id == "6100000000001"
    assert (report.total, report.discount, report.tax, report.shipping) == (
        129900,
        10000,
        7400,
        1250,
    )
    assert (report.currency, report.status, report.channel) == ("CNY", "paid", "web")
    assert report.store == "teahouse.myshopify.com"
    assert report.placed_at == parse_time("2026-03-01T07:59:58Z")
    assert report.at == parse_time("2026-03-01T08:00:05Z")
    assert record.claims == (
        ("shopify_customer_id", "7700000000007"),
        ("email", "an.ni@example.com"),
        ("phone", "+8613800138000"),
    )
    assert [(line.sku, line.name, line.quantity, line.price) for line in report.lines] == [
        ("TEA-龙井", "龙井 - 250g", 2, 64325),
        ("45", "Cup", 1, 0),
    ]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"financial_status": "pending"}, "pending"),
        ({"financial_status": "authorized"}, "pending"),
        ({"fulfillment_status": "fulfilled"}, "completed"),
        ({"financial_status": "partially_refunded"}, "paid"),
        ({"financial_status": "refunded"}, "returned"),
        ({"financial_status": "voided"}, "cancelled"),
        ({"cancelled_at": "2026-03-02T00:00:00Z"}, "cancelled"),
    ],
)
def test_the_status_of_a_shopify_order_follows_payment_and_shipping(
    changes: dict[str, Any], status: str
) -> None:
    (document,) = from_shopify("orders/updated", shops.shopify_order(**changes)).orders
    assert document["status"] == status


def test_a_refund_alone_names_nothing_else_of_its_order() -> None:
    (document,) = from_shopify("refunds/create", shops.shopify_refund()).orders
    record = as_record(document)
    assert record.report.is_partial
    assert record.report.total is None
    assert record.report.status is None
    assert record.claims == ()
    (refund,) = record.report.refunds
    assert (refund.refund_id, refund.amount) == ("900001", 9900)


def test_a_refund_paid_in_another_currency_counts_in_the_shops_own() -> None:
    payload = shops.shopify_refund(
        transactions=[{"kind": "refund", "status": "success", "amount": "13", "currency": "USD"}]
    )
    (document,) = from_shopify("refunds/create", payload).orders
    assert document["currency"] == "CNY"
    assert as_record(document).report.refunds[0].amount == 9900


@pytest.mark.parametrize(
    ("currency", "price", "minor"),
    [("JPY", "1299", 1299), ("KWD", "12.345", 12345), ("CNY", "0.10", 10)],
)
def test_money_has_the_decimals_of_its_currency(currency: str, price: str, minor: int) -> None:
    payload = shops.shopify_order(currency=currency, total_price=price, line_items=[])
    payload |= {"total_discounts": "0", "total_tax": "0", "total_shipping_price_set": None}
    (document,) = from_shopify("orders/paid", payload).orders
    assert as_record(document).report.total == minor


def test_of_two_versions_in_one_second_the_one_that_has_come_further_counts() -> None:
    (pending,) = from_shopify(
        "orders/create", shops.shopify_order(financial_status="pending")
    ).orders
    (paid,) = from_shopify("orders/paid", shops.shopify_order()).orders
    assert pending["updated_at"] == paid["updated_at"]
    assert as_record(pending).report.message_id < as_record(paid).report.message_id


def test_the_same_version_by_another_topic_is_the_same_message() -> None:
    (created,) = from_shopify("orders/create", shops.shopify_order()).orders
    (updated,) = from_shopify("orders/updated", shops.shopify_order()).orders
    assert created == updated


def test_an_order_may_be_named_by_the_number_that_people_see() -> None:
    mapped = from_shopify("orders/create", shops.shopify_order(), order_id_from="number")
    assert mapped.orders[0]["order_id"] == "1001"
    refund = from_shopify("refunds/create", shops.shopify_refund(), order_id_from="number")
    assert [one.code for one in refund.refused] == ["unknown_topic"]


def test_a_customer_of_shopify_has_traits_and_a_consent_dated_when_it_was_given() -> None:
    identify, consent = from_shopify("customers/update", shops.shopify_customer()).events
    assert identify["type"] == "identify"
    assert identify["timestamp"] == "2026-03-02T00:00:00Z"
    assert identify["traits"]["name"] == "妮 安"
    assert identify["traits"]["tags"] == ["vip", "茶友"]
    assert "zip" not in identify["traits"]["address"]
    assert identify["context"]["externalIds"] == [
        {"id": "7700000000007", "type": "shopify_customer_id", "collection": "users"}
    ]
    assert "consent" not in identify["context"]
    assert consent["timestamp"] == "2026-02-01T00:00:00Z"
    assert consent["context"]["consent"]["categoryPreferences"] == {"marketing": True}


@pytest.mark.parametrize(
    ("changes", "consents"),
    [
        ({"email_marketing_consent": None, "accepts_marketing": False}, {"marketing": False}),
        (
            {"email_marketing_consent": {"state": "unsubscribed", "consent_updated_at": None}},
            {"marketing": False},
        ),
        ({"email_marketing_consent": {"state": "not_subscribed"}}, None),
        ({"email_marketing_consent": {"state": "redacted"}}, None),
    ],
)
def test_what_a_customer_never_said_is_no_consent(
    changes: dict[str, Any], consents: dict[str, bool] | None
) -> None:
    (identify,) = from_shopify("customers/create", shops.shopify_customer(**changes)).events
    said = identify["context"].get("consent")
    assert (said and said["categoryPreferences"]) == consents


def test_who_is_to_be_redacted_is_named_by_all_that_shopify_knows_them_by() -> None:
    payload = {
        "shop_id": 9,
        "shop_domain": "teahouse.myshopify.com",
        "customer": {"id": 7, "email": "an.ni@example.com", "phone": None},
        "orders_to_redact": [1],
    }
    (request,) = from_shopify("customers/redact", payload).privacy
    assert request["kind"] == "delete"
    assert request["identifiers"] == [
        {"type": "shopify_customer_id", "value": "7"},
        {"type": "email", "value": "an.ni@example.com"},
    ]


def test_an_order_of_woocommerce_is_an_order_of_ours() -> None:
    (document,) = from_woo("order.updated", shops.woo_order()).orders
    record = as_record(document)
    report = record.report
    assert (report.order_id, report.status, report.currency) == ("727", "paid", "JPY")
    assert (report.total, report.discount, report.tax, report.shipping) == (3300, 200, 300, 800)
    assert (report.store, report.channel) == ("tee.example", "checkout")
    assert report.at == parse_time("2026-03-22T07:28:08Z")
    assert report.lines[0].price == 1200
    assert record.claims == (
        ("woocommerce_customer_id", "25"),
        ("email", "hanako@example.jp"),
        ("phone", "+819012345678"),
    )


def test_a_guest_of_woocommerce_has_no_customer_id_and_refunds_are_positive() -> None:
    payload = shops.woo_order(
        customer_id=0, status="refunded", refunds=[{"id": 726, "reason": "", "total": "-3300"}]
    )
    (document,) = from_woo("order.updated", payload).orders
    record = as_record(document)
    assert [kind for kind, _ in record.claims] == ["email", "phone"]
    assert record.report.status == "returned"
    assert [(one.refund_id, one.amount) for one in record.report.refunds] == [("726", 3300)]


def test_what_woocommerce_deletes_comes_with_its_id_alone() -> None:
    (order,) = from_woo("order.deleted", {"id": 727}).orders
    assert as_record(order).report.status == "cancelled"
    (request,) = from_woo("customer.deleted", {"id": 25}).privacy
    assert request["identifiers"] == [{"type": "woocommerce_customer_id", "value": "25"}]


def test_a_customer_of_woocommerce_has_traits() -> None:
    payload = {
        "id": 25,
        "date_created_gmt": "2026-03-21T16:09:28",
        "date_modified_gmt": "2026-03-21T16:09:30",
        "email": "hanako@example.jp",
        "first_name": "花子",
        "last_name": "",
        "username": "hanako",
        "billing": {"phone": "+819012345678", "city": "京都", "country": "JP"},
    }
    (event,) = from_woo("customer.created", payload).events
    assert event["timestamp"] == "2026-03-21T16:09:30.000Z"
    assert event["traits"]["name"] == "花子"
    assert event["traits"]["address"] == {"city": "京都", "country": "JP"}


@pytest.mark.parametrize(
    ("body", "is_one"),
    [(b"webhook_id=5", True), (b"webhook_id=x", False), (b'{"webhook_id":5}', False), (b"", False)],
)
def test_a_new_hook_of_woocommerce_is_tried_with_a_form(body: bytes, is_one: bool) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert is_trial(Delivery(headers, body, RECEIVED)) is is_one


def test_a_trade_of_youzan_is_an_order_in_yuan_and_in_chinas_time() -> None:
    (document,) = from_youzan("trade_TradePaid", shops.youzan_trade()).orders
    record = as_record(document)
    report = record.report
    assert (report.order_id, report.status, report.currency) == (
        "E20260301163000068500001",
        "paid",
        "CNY",
    )
    assert (report.total, report.shipping, report.discount) == (13914, 800, 15056)
    assert report.at == parse_time("2026-03-01T08:30:00Z")
    assert report.placed_at == parse_time("2026-03-01T08:29:00Z")
    assert (report.store, report.channel) == ("静安店", "online")
    assert record.claims == (
        ("youzan_open_id", "yz-open-1"),
        ("wechat_openid", "wx-open-1"),
        ("phone", "+8613800138000"),
    )
    assert report.lines[0].sku == "WHITE"


def test_an_encrypted_phone_of_youzan_names_nobody() -> None:
    trade = shops.youzan_trade(
        buyer_info={"yz_open_id": "yz-open-1", "buyer_phone": "$eTS8t8hAECdXKgNt==$1$"}
    )
    (document,) = from_youzan("trade_TradeCreate", trade).orders
    assert [kind for kind, _ in as_record(document).claims] == ["youzan_open_id"]


@pytest.mark.parametrize(
    ("kind", "status"), [("trade_TradeSuccess", "completed"), ("trade_TradeClose", "cancelled")]
)
def test_the_fate_of_a_trade_leaves_the_rest_of_the_order_alone(kind: str, status: str) -> None:
    message = {"tid": "E2026", "update_time": "2026-03-05 10:00:00"}
    (document,) = from_youzan(kind, message).orders
    report = as_record(document).report
    assert (report.is_partial, report.order_id, report.status) == (True, "E2026", status)
    assert report.total is None


def test_a_refund_of_youzan_is_part_of_its_order() -> None:
    message = {
        "tid": "E2026",
        "refund_id": "R1",
        "refunded_fee": "39.14",
        "update_time": "2026-03-05 10:00:00",
    }
    (document,) = from_youzan("trade_refund_RefundSuccess", message).orders
    (refund,) = as_record(document).report.refunds
    assert (refund.refund_id, refund.amount) == ("R1", 3914)


def test_a_login_with_a_phone_ties_it_to_the_youzan_id() -> None:
    body = json.dumps({"mobile": "13800138000", "yz_open_id": "yz-1", "root_kdt_id": 1}).encode()
    headers = shops.youzan_headers(body, "OPEN_PUSH_SCRM_CUSTOMER_AUTH_MOBILE")
    (event,) = HOOKS["youzan"](deliver(body, headers), {}).events
    assert event["traits"] == {"phone": "+8613800138000"}


@pytest.mark.parametrize("preset", ["shopify", "woocommerce", "youzan"])
def test_an_unknown_topic_is_refused_and_kept_whole(preset: str) -> None:
    body = shops.to_body({"id": 1, "type": "x"})
    (refused,) = HOOKS[preset](deliver(body, {}), {}).refused
    assert (refused.code, refused.raw) == ("unknown_topic", body)


CUSTOM = {
    "kind": "orders",
    "each": "data.orders",
    "fields": {
        "order_id": "id",
        "updated_at": "changed",
        "currency": "'KWD'",
        "total": "sum",
        "identifiers.email": "buyer.mail",
        "lines": "items[].{sku: code, quantity: n, price: each}",
    },
}


def test_a_custom_mapping_makes_an_order_of_each_element() -> None:
    body = shops.to_body(
        {
            "data": {
                "orders": [
                    {
                        "id": 7,
                        "changed": "2026-03-01T00:00:00Z",
                        "sum": "12.345",
                        "buyer": {"mail": "a@example.com"},
                        "items": [{"code": "x", "n": 2, "each": "6.1725"}],
                    },
                    {"id": None},
                ]
            }
        }
    )
    mapped = HOOKS["custom"](deliver(body, {}), {"mapping": CUSTOM})
    record = as_record(mapped.orders[0])
    assert record.report.total == 12345
    assert record.claims == (("email", "a@example.com"),)
    assert record.report.lines[0].sku == "x"
    raw, index = mapped.elements[id(mapped.orders[1])]
    assert (json.loads(raw), index) == ({"id": None}, 1)


def test_a_custom_mapping_may_find_the_kind_in_the_element() -> None:
    mapping = {
        "kind": "what",
        "each": "@",
        "fields": {
            "event": "name",
            "properties.total": "sum",
            "traits.city": "city",
            "identifiers.member_card": "card",
            "consent.marketing": "agrees",
        },
    }
    elements = [
        {"what": "events", "name": "Coupon Used", "sum": 5, "card": "M1"},
        {"what": "profiles", "city": "上海", "card": "M1", "agrees": False},
        {"what": "weather"},
    ]
    mapped = HOOKS["custom"](deliver(shops.to_body(elements), {}), {"mapping": mapping})
    used, person = mapped.events
    assert (used["type"], used["event"], used["properties"]) == (
        "track",
        "Coupon Used",
        {"total": 5},
    )
    assert used["context"]["externalIds"][0]["id"] == "M1"
    assert (person["type"], person["traits"]) == ("identify", {"city": "上海"})
    assert person["context"]["consent"]["categoryPreferences"] == {"marketing": False}
    assert [one.code for one in mapped.refused] == ["unknown_topic"]


@pytest.mark.parametrize(
    "mapping",
    [
        {"event": "name", "userId": "who", "properties.total": "sum"},
        "{event: name, userId: who, properties: {total: sum}, timestamp: absent}",
        "[{event: name, userId: who, properties: {total: sum}}]",
    ],
)
def test_a_custom_mapping_may_be_its_fields_or_one_expression(mapping: object) -> None:
    body = shops.to_body({"name": "Coupon Used", "who": "7", "sum": 5})
    mapped = HOOKS["custom"](deliver(body, {}), {"mapping": mapping})
    (event,) = mapped.events
    del event["messageId"]
    wanted = {"event": "Coupon Used", "userId": "7", "properties": {"total": 5}, "type": "track"}
    assert event == wanted


@pytest.mark.parametrize("name", ["", "batch", "orders"])
def test_without_a_mapping_a_delivery_is_events_and_orders_as_they_are_posted(name: str) -> None:
    elements = [{"type": "identify", "userId": "7"}, {"order_id": "1", "total": 5}, 7]
    body = shops.to_body({name: elements} if name else elements)
    mapped = HOOKS["custom"](deliver(body, {}), {"mapping": {}})
    assert [one["type"] for one in mapped.events] == ["identify"]
    assert as_record(mapped.orders[0]).report.total == 500
    assert [(one.code, one.index) for one in mapped.refused] == [("mapping_failed", 2)]


def test_an_expression_that_would_never_end_refuses_its_element() -> None:
    doubling = "[@,@]" + "|[@,@]" * 100
    mapping = {"kind": "events", "fields": {"event": f"{doubling}|to_string(@)"}}
    mapped = HOOKS["custom"](deliver(b"{}", {}), {"mapping": mapping})
    assert [one.code for one in mapped.refused] == ["mapping_failed"]
    assert "too much work" in mapped.refused[0].message


def test_each_shops_signature_is_recognised_and_one_bit_breaks_it() -> None:
    body = shops.youzan_message("trade_TradePaid", shops.youzan_trade())
    signed: dict[str, dict[str, str]] = {
        "shopify": shops.shopify_headers(body, "orders/create"),
        "woocommerce": shops.woo_headers(body, "order.created"),
        "youzan": shops.youzan_headers(body, "trade_TradePaid"),
        "custom": {"X-Signature": "sha256=" + shops.sign_hex(body)},
    }
    for preset, headers in signed.items():
        settings = {"preset": preset, "secret": shops.SECRET}
        good = deliver(body, headers)
        assert is_signed(good, settings), preset
        assert not is_signed(good._replace(body=body + b" "), settings), preset
        assert not is_signed(good, settings | {"secret": "another"}), preset
        assert not is_signed(good, {"preset": preset}), preset
        assert not is_signed(good, {"preset": preset, "secret": ""}), preset


def test_the_older_signature_of_youzan_in_the_body_counts_when_no_header_is_there() -> None:
    body = shops.youzan_message("trade_TradePaid", shops.youzan_trade())
    settings = {"preset": "youzan", "secret": shops.SECRET, "client_id": "c1a2b3"}
    assert is_signed(deliver(body, {}), settings)
    assert not is_signed(deliver(body, {"Event-Sign": "0" * 32}), settings)
    assert not is_signed(deliver(b"{}", {}), settings)


@given(
    st.sampled_from(sorted(HOOKS)),
    st.sampled_from(
        ["orders/create", "refunds/create", "customers/update", "customers/redact",
         "order.updated", "customer.created", "order.deleted", "customer.deleted"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "customer", "line_items", "refunds", "total_price", "updated_at", "msg",
                 "full_order_info", "order_info", "pay_info", "transactions", "billing", "total",
                 "date_modified_gmt", "type", "email", "amount", "email_marketing_consent",
                 "state", "version", "currency", "shipping_lines", "price", "tid"]
            ),
            inner,
            max_size=6,
        ),
        max_leaves=25,
    ),
)  # fmt: skip
def test_no_payload_whatever_raises(preset: str, topic: str, payload: Any) -> None:
    body = json.dumps(payload).encode()
    headers = {"x-shopify-topic": topic, "x-wc-webhook-topic": topic, "event-type": topic}
    settings = {"preset": preset, "secret": "s", "mapping": CUSTOM}
    mapped = HOOKS[preset](Delivery(headers, body, RECEIVED), settings)
    kept = [*mapped.events, *mapped.orders, *mapped.privacy, *mapped.refused]
    assert kept or preset == "youzan"
    assert not is_signed(Delivery(headers, body, RECEIVED), settings)


@given(st.binary(max_size=200), st.sampled_from(sorted(HOOKS)))
def test_bytes_of_any_kind_are_refused_whole(body: bytes, preset: str) -> None:
    settings = {"preset": preset, "secret": "s", "mapping": CUSTOM}
    mapped = HOOKS[preset](Delivery({"x-shopify-topic": "orders/create"}, body, RECEIVED), settings)
    assert len(mapped.refused) + len(mapped.orders) >= 1
