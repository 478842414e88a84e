"""Which shop reads which delivery. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from cdp.ingest.hooks import custom, shopify, woocommerce, youzan
from cdp.ingest.hooks.delivery import Delivery, Mapped

MapDelivery = Callable[[Delivery, Mapping[str, Any]], Mapped]

HOOKS: Mapping[str, MapDelivery] = MappingProxyType(
    {
        "shopify": shopify.map_delivery,
        "woocommerce": woocommerce.map_delivery,
        "youzan": youzan.map_delivery,
        "custom": custom.map_delivery,
    }
)
"""Preset → what turns its deliveries into documents; it never raises."""

TOPIC_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "shopify": "x-shopify-topic",
        "woocommerce": "x-wc-webhook-topic",
        "youzan": "event-type",
        "custom": "",
    }
)
"""Preset → the header that says what a delivery is about, kept with what is refused."""
