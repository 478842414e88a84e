"""Whether a delivery was signed with the secret that the shop and we share. Pure.

All signatures are over the bytes as they came and are compared in constant time.

===========  ============================  ==================================================
Shopify      ``X-Shopify-Hmac-Sha256``     base64 of HMAC-SHA256
WooCommerce  ``X-WC-Webhook-Signature``    base64 of HMAC-SHA256
Youzan       ``Event-Sign``                MD5 of client id + body + client secret, in hex
             ``sign`` in the body          older: MD5 of client id + ``msg`` + client secret
custom       ``signature_header``          HMAC-SHA256 in hex, also behind ``sha256=``
===========  ============================  ==================================================

https://shopify.dev/docs/apps/build/webhooks/subscribe/https,
https://developer.woocommerce.com/docs/apis/rest-api/v3/webhooks/,
https://doc.youzanyun.com/resource/develop-guide/41355/41536
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from cdp.ingest.hooks.delivery import Delivery, as_text, read_object

DEFAULT_HEADER = "X-Signature"


def is_signed(delivery: Delivery, settings: Mapping[str, Any]) -> bool:
    """Return whether ``delivery`` bears the signature that the source's ``settings`` ask for.

    Without a secret nothing is signed.
    """
    secret = settings.get("secret")
    if not isinstance(secret, str) or not secret:
        return False
    key = secret.encode()
    match settings.get("preset"):
        case "shopify":
            return _is_base64(delivery.header("x-shopify-hmac-sha256"), key, delivery.body)
        case "woocommerce":
            return _is_base64(delivery.header("x-wc-webhook-signature"), key, delivery.body)
        case "youzan":
            return _is_signed_by_youzan(delivery, settings, key)
        case "custom":
            name = str(settings.get("signature_header") or DEFAULT_HEADER).lower()
            said = delivery.header(name).lower().removeprefix("sha256=")
            return _is_same(said, hmac.new(key, delivery.body, hashlib.sha256).hexdigest())
        case _:
            return False


def _is_base64(said: str, key: bytes, body: bytes) -> bool:
    digest = hmac.new(key, body, hashlib.sha256).digest()
    return _is_same(said, base64.b64encode(digest).decode())


def _is_signed_by_youzan(delivery: Delivery, settings: Mapping[str, Any], key: bytes) -> bool:
    said = delivery.header("event-sign")
    signed: bytes = delivery.body
    client_id = as_text(settings.get("client_id"))
    if not said or client_id is None:
        body = read_object(delivery.body)
        if isinstance(body, str):
            return False
        # The client id is no secret: it stands in every message.
        client_id = client_id or as_text(body.get("client_id")) or ""
        if not said:
            said = as_text(body.get("sign")) or ""
            message = body.get("msg")
            if not isinstance(message, str):
                return False
            signed = message.encode("utf-8", "surrogatepass")
    # Their published scheme, old as it is.
    digest = hashlib.md5(client_id.encode() + signed + key, usedforsecurity=False)
    return _is_same(said.lower(), digest.hexdigest())


def _is_same(said: str, expected: str) -> bool:
    return hmac.compare_digest(said.encode("utf-8", "surrogatepass"), expected.encode())
