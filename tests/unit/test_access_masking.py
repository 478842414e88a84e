"""Personal values under masks."""

from __future__ import annotations

import pytest

from cdp.access import masking


@pytest.mark.parametrize(
    "key",
    ["email", "Email", "customer_email", "phone", "mobilePhone", "name", "firstName", "last_name",
     "address", "shipping_address", "address.city", "birthday", "date_of_birth"],
)  # fmt: skip
def test_these_keys_hold_personal_values(key: str) -> None:
    assert masking.is_personal(key)


@pytest.mark.parametrize("key", ["plan", "product_name", "email_opt_in", "city", "total", "rename"])
def test_these_keys_do_not(key: str) -> None:
    assert not masking.is_personal(key)


def test_traits_keep_their_shape_under_the_mask() -> None:
    traits = {
        "email": "ann@example.com",
        "name": "安妮",
        "plan": "pro",
        "address": {"city": "上海", "floor": 3, "lines": ["a road", None]},
        "age": 41,
    }
    assert masking.mask_traits(traits) == {
        "email": "a***",
        "name": "安***",
        "plan": "pro",
        "address": {"city": "上***", "floor": "***", "lines": ["a***", None]},
        "age": 41,
    }


def test_a_single_character_is_hidden_whole() -> None:
    assert masking.mask_text("安") == "***"


@pytest.mark.parametrize(
    ("kind", "value", "masked"),
    [
        ("email", "ann@example.com", "a***"),
        ("phone", "+8613800138000", "+***"),
        ("user_id", "ann@example.com", "a***"),
        ("user_id", "+8613800138000", "+***"),
        ("email_sha256", "0f5c", "0***"),
        ("phone_sha256", "0f5c", "0***"),
        ("crm_id", "eu::+8613800138000", "e***"),
        ("crm_id", "eu::ann@example.com", "e***"),
        ("crm_id", "eu::42", "eu::42"),
        ("user_id", "42", "42"),
        ("anonymous_id", "0a1b", "0a1b"),
    ],
)
def test_an_identifier_that_is_a_contact_is_masked_whatever_its_type(
    kind: str, value: str, masked: str
) -> None:
    assert masking.mask_identifier(kind, value) == masked


def test_names_of_products_and_pages_are_not_personal() -> None:
    properties = {"name": "Ann", "products": [{"name": "Tea", "buyer": {"name": "Ann"}}]}
    masked = {"name": "A***", "products": [{"name": "Tea", "buyer": {"name": "A***"}}]}
    assert masking.mask_properties(properties) == masked
    assert masking.mask_properties({"name": "Home"}, call="page") == {"name": "Home"}


def test_an_address_of_mail_is_masked_within_any_text() -> None:
    properties = {"note": "ask ann@example.com today", "url": "https://x.io/?m=ann%40example.com"}
    assert masking.mask_properties(properties) == {
        "note": "ask a*** today",
        "url": "https://x.io/?m=a***",
    }


def test_a_context_keeps_the_names_of_apps_but_not_the_traits() -> None:
    context = {
        "app": {"name": "Shop"},
        "traits": {"name": "Ann", "plan": "pro"},
        "externalIds": [{"id": "+8613800138000", "type": "mobile"}, "odd"],
    }
    assert masking.mask_context(context) == {
        "app": {"name": "Shop"},
        "traits": {"name": "A***", "plan": "pro"},
        "externalIds": [{"id": "+***", "type": "mobile"}, "odd"],
    }
