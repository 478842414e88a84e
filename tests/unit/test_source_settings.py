"""The settings of a source: what may be, where a mistake is, what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.errors import Unprocessable
from cdp.ingest.source_presets import PRESETS, show_effective
from cdp.ingest.source_settings import MASK, check_settings, list_unknown, mask_settings
from cdp.model import SOURCE_TYPES, Source, SourceType

MAPPING = {"kind": "events", "fields": {"event": "name", "identifiers.email": "mail"}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_event_bytes": 256, "order_scope": "", "links": "anonymous", "trusted_times": False},
        {"identifier_types": ["email", "crm_id"], "default_consent": {"marketing": False}},
        {"rate_limit": 0.5},
        {"rate_limit": {"events_per_second": 100, "burst": 1000}},
        {"preset": "shopify", "secret": "s"},
        {"preset": "youzan", "secret": "s", "client_id": "c", "customer_id_type": "user_id"},
        {"preset": "custom", "mapping": MAPPING, "signature_header": "X-Hub-Signature-256"},
        {"identifier_scope": "crm-eu", "previous_id_type": "user_id"},
        {"identifier_scope": {"crm_id": "crm-eu", "wechat_openid": "wx12ab"}},
        {"team": "crm", "note": None},
    ],
)
def test_good_settings_are_stored_as_they_are(settings: dict[str, Any]) -> None:
    assert check_settings("shop", settings) == settings


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"max_event_bytes": 255}, "max_event_bytes"),
        ({"max_event_bytes": True}, "max_event_bytes"),
        ({"links": "everything"}, "links"),
        ({"links": ["known"]}, "links"),
        ({"trusted_times": "yes"}, "trusted_times"),
        ({"identifier_types": []}, "identifier_types"),
        ({"identifier_types": ["email", "a b"]}, "identifier_types/1"),
        ({"default_consent": {"marketing": "yes"}}, "default_consent/marketing"),
        ({"default_consent": ["marketing"]}, "default_consent"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"rate_limit": {"burst": 5}}, "rate_limit"),
        ({"rate_limit": {"events_per_second": -1}}, "rate_limit/events_per_second"),
        ({"identifier_scope": "a b"}, "identifier_scope"),
        ({"identifier_scope": {}}, "identifier_scope"),
        ({"identifier_scope": {"crm_id": "a::b"}}, "identifier_scope/crm_id"),
        ({"previous_id_type": "a b"}, "previous_id_type"),
        ({"preset": "magento"}, "preset"),
        ({"secret": ""}, "secret"),
        ({"preset": "custom"}, "mapping"),
        ({"mapping": {"fields": {"event": "a"}}}, "mapping/kind"),
        ({"mapping": MAPPING | {"more": 1}}, "mapping/more"),
        ({"mapping": MAPPING | {"each": "a["}}, "mapping/each"),
        ({"mapping": MAPPING | {"fields": {}}}, "mapping/fields"),
        ({"mapping": MAPPING | {"fields": {"evnt": "a"}}}, "mapping/fields/evnt"),
        ({"mapping": MAPPING | {"fields": {"event": "a ||"}}}, "mapping/fields/event"),
        ({"mapping": MAPPING | {"fields": {"identifiers": "a"}}}, "mapping/fields/identifiers"),
        ({"mapping": MAPPING | {"fields": {"event.x": "a"}}}, "mapping/fields/event.x"),
        ({"mapping": {"kind": "orders", "fields": {"total": "a"}}}, "mapping/fields/order_id"),
        ({"signature_header": "X Signature"}, "signature_header"),
    ],
)
def test_a_mistake_is_named_by_its_place(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        check_settings("shop", settings)
    assert refused.value.details["path"] == f"/settings/{path}"


def test_a_typing_mistake_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(Unprocessable, match="did you mean 'trusted_times'") as refused:
        check_settings("crm", {"trusted_time": True})
    assert refused.value.code == "unknown_setting"
    assert list_unknown({"team": "crm", "links": "known"}) == ["team"]


@pytest.mark.parametrize("kind", ["web", "app"])
def test_a_public_key_never_joins_known_people_nor_takes_hooks(kind: SourceType) -> None:
    for settings in ({"links": "known"}, {"preset": "shopify"}, {"secret": "x"}):
        with pytest.raises(Unprocessable) as refused:
            check_settings(kind, settings)
        assert refused.value.code == "public_key"
    assert not Source("s", 1, "s", kind, {"links": "known"}).joins_known


def test_a_private_source_may_be_held_to_anonymous_visitors() -> None:
    assert Source("s", 1, "s", "server").joins_known
    assert not Source("s", 1, "s", "server", {"links": "anonymous"}).joins_known


def test_every_type_has_a_preset_and_settings_lie_over_it() -> None:
    assert set(PRESETS) == set(SOURCE_TYPES)
    assert show_effective("web", {})["links"] == "anonymous"
    assert show_effective("web", {"trusted_times": True})["trusted_times"] is True
    assert show_effective("store", {})["links"] == "known"


def test_a_secret_is_never_shown_and_sent_back_masked_it_stays() -> None:
    assert mask_settings({"secret": "s", "preset": "shopify"})["secret"] == MASK
    known = {"preset": "shopify", "secret": "s"}
    assert check_settings("shop", {"secret": MASK, "links": "known"}, known) == {"links": "known"}


def test_what_is_judged_together_is_judged_with_what_is_stored() -> None:
    known = {"preset": "custom", "mapping": MAPPING}
    assert check_settings("shop", {"secret": "s"}, known) == {"secret": "s"}
    with pytest.raises(Unprocessable):
        check_settings("shop", {"mapping": None}, known)
