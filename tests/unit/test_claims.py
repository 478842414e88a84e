"""Which identifiers an event carries, by where they stand and by whose word."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from cdp.identity.identifiers import identify
from cdp.identity.rules import default_rules
from cdp.ingest.claims import ORDER_EVENTS
from cdp.ingest.contacts import find_contact
from cdp.ingest.read_line import read_line
from cdp.log.format import LoggedLine
from cdp.model import Event, Source, SourceType
from cdp.orders import read_report
from tests.support.identity_world import World, people, saw

RULES = default_rules("CN")
OPENID = {"id": "o6", "type": "wechat_openid", "collection": "users", "encoding": "none"}
CRM = {"id": 1001, "type": "crm_id"}


def names(
    event: dict[str, Any], *, source_type: SourceType = "server", **settings: Any
) -> list[str]:
    """Return the identifiers of an event from a source, strongest first."""
    source = Source("src_1", 1, "s", source_type, settings)
    data = json.dumps({"type": "track", **event}).encode()
    line = LoggedLine("src_1", "r", "2026-03-01T08:00:10.000Z", None, 0, data)
    found = read_line(line, source, partial(identify, rules=RULES))
    assert isinstance(found, Event)
    return [str(name) for name in found.identifiers]


def order(name: str = "Order Completed", **properties: Any) -> dict[str, Any]:
    return {"event": name, "anonymousId": "c", "properties": properties}


@pytest.mark.parametrize("name", sorted(ORDER_EVENTS))
def test_the_contact_and_the_card_on_an_order_are_the_buyers(name: str) -> None:
    event = order(name, order_id=1, email="Ann@x.cn", phone=13800138000, member_card="M1")
    assert names(event) == [
        "member_card:M1", "email:ann@x.cn", "phone:+8613800138000", "anonymous_id:c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "event",
    [
        order(email="ann@x.cn", phone="13800138000"),
        order("Invite Sent", order_id=1, email="ann@x.cn"),
        order(order_id=1, email=["ann@x.cn"], phone={"number": "13800138000"}),
        order(order_id=1, customer={"email": "ann@x.cn"}),
        {"event": "Order Completed", "anonymousId": "c", "email": "ann@x.cn"},
        {**order(order_id=1, email="ann@x.cn"), "type": "page"},
    ],
)
def test_an_address_anywhere_else_among_properties_is_nobodys(event: dict[str, Any]) -> None:
    assert names(event) == ["anonymous_id:c"]


def test_the_events_that_name_a_buyer_are_those_that_make_orders() -> None:
    assert set(read_report.ORDER_EVENTS) == ORDER_EVENTS


def test_the_door_takes_an_order_that_names_its_buyer_only_by_contact() -> None:
    event = {"type": "track", "event": "Order Completed"}
    for buyer in ({"email": "a@x.cn"}, {"phone": 138}, {"member_card": "M1"}):
        assert find_contact({**event, "properties": {"order_id": 1, **buyer}})
        assert find_contact({**event, "properties": {**buyer}}) is None
        odd = {**event, "context": 7, "properties": {"order_id": 1, **buyer}}
        assert find_contact(odd)


def test_a_device_brings_its_id_its_advertising_id_and_its_push_token() -> None:
    device = {"id": "D", "advertisingId": "AB", "token": "T", "type": "ios"}
    assert names({"userId": "u", "context": {"device": device}}) == [
        "user_id:u", "device_id:D", "device_token:T", "idfa:ab",
    ]  # fmt: skip


def test_external_ids_of_another_collection_are_not_the_persons() -> None:
    outside = [{"id": "acme", "type": "account", "collection": "accounts"}, OPENID]
    assert names({"userId": "u", "context": {"externalIds": outside}}) == [
        "user_id:u", "wechat_openid:o6",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "spelt"),
    [(1001, ["crm_id:1001"]), ("1001", ["crm_id:1001"]), (" 1001 ", ["crm_id:1001"])],
)
def test_a_number_and_its_digits_are_one_name(value: object, spelt: list[str]) -> None:
    assert names({"context": {"externalIds": [{**CRM, "id": value}]}}) == spelt


@pytest.mark.parametrize(
    "member",
    [
        {"context": {"externalIds": [{**CRM, "id": "x" * 10_240}]}},
        {"context": {"externalIds": [{"id": "1", "type": "x" * 10_240}]}},
        {"context": {"traits": {"email": "x" * 10_240 + "@x.cn"}}},
        {"context": {"device": {"id": "x" * 10_240}}},
        order(order_id=1, email="x" * 10_240 + "@x.cn"),
    ],
)
def test_an_identifier_of_ten_kilobytes_names_nobody_and_costs_no_event(
    member: dict[str, Any],
) -> None:
    assert names({**member, "userId": "u", "anonymousId": None}) == ["user_id:u"]


def test_two_systems_with_one_numbering_name_two_people() -> None:
    event = {"context": {"externalIds": [CRM], "traits": {"email": "ann@x.cn"}}}
    europe = names(event, source_type="crm", identifier_scope="eu")
    other = {"context": {"externalIds": [CRM], "traits": {"email": "bob@x.cn"}}}
    china = names(other, source_type="crm", identifier_scope={"crm_id": "cn"})
    assert (europe, china) == (
        ["crm_id:eu::1001", "email:ann@x.cn"],
        ["crm_id:cn::1001", "email:bob@x.cn"],
    )
    world = World(saw(" ".join(europe), 1), saw(" ".join(china), 2))
    assert world.people() == people(" ".join(europe), " ".join(china))


def test_sources_that_do_not_say_so_share_one_numbering() -> None:
    event = {"userId": "u", "context": {"externalIds": [CRM]}}
    assert names(event, source_type="crm") == names(event, source_type="shop")
    assert names(event, identifier_scope={"erp_id": "eu"}) == ["user_id:u", "crm_id:1001"]


@pytest.mark.parametrize(
    ("namespace", "spelt"),
    [
        ("wx12ab34cd", "wechat_openid:wx12ab34cd::o6"),
        # One openid on an iPhone and an Android phone, whose apps have two names.
        ("com.shop.app", "wechat_openid:o6"),
        (None, "wechat_openid:o6"),
    ],
)
def test_an_openid_is_of_the_wechat_app_that_sends_it(namespace: str | None, spelt: str) -> None:
    context = {"app": {"namespace": namespace}, "externalIds": [OPENID]}
    assert names({"context": context}) == [spelt]


def test_a_source_may_say_of_which_app_its_openids_are() -> None:
    event = {"userId": "u", "context": {"externalIds": [OPENID]}}
    assert names(event, identifier_scope={"wechat_openid": "wx99"}) == [
        "user_id:u", "wechat_openid:wx99::o6",
    ]  # fmt: skip


def test_an_aliass_earlier_id_is_what_the_source_says_it_is() -> None:
    event = {"type": "alias", "userId": "new", "previousId": "old"}
    assert names(event) == ["user_id:new", "anonymous_id:old"]
    assert names(event, previous_id_type="crm_id") == ["user_id:new", "crm_id:old"]
    assert names(event, previous_id_type="user_id") == ["user_id:new", "user_id:old"]


def test_an_alias_of_one_known_person_to_another_joins_nobody_and_is_shown() -> None:
    world = World(
        saw("user_id:old email:ann@x.cn", 1),
        saw("user_id:new phone:+8613800138000", 2),
        saw("user_id:old user_id:new", 3),
    )
    assert world.people() == people(
        "user_id:old email:ann@x.cn", "user_id:new phone:+8613800138000"
    )
    assert world.refused() == {("user_id:new", "user_id:old", "unique_conflict")}
