"""Which identifiers an event carries, and where each of them stands. Pure.

In the words of the wire: ``userId`` is user_id and ``anonymousId`` anonymous_id; e-mail and phone
come from the traits of an identify call and from ``context.traits``, which always are the
person's (RudderStack's SDKs send them there, and only there); the ``traits`` of a group call are
the account's. ``context.externalIds`` brings any other type, ``context.device`` the device's. The
contact and the member card on an order are the buyer's; an e-mail address among the properties of
any other event may be anybody's.

``previousId`` of an alias is untyped. Browsers fill it with the stored anonymous id, servers with
whatever the person was known by. It is read as an anonymous_id unless the source's setting
``previous_id_type`` says otherwise: an event never makes one person of two user ids, so as a
user_id it joins nobody, but the attempt is kept and shown among what was refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdp.ingest.wire_event import (
    UNREADABLE,
    WireContext,
    WireLine,
    decode_order_contact,
)
from cdp.model import Scoped

Claim = tuple[str, object]
"""The type and the raw value of an identifier."""

ORDER_EVENTS = frozenset({"Order Completed", "Order Updated", "Order Refunded", "Order Cancelled"})
"""Those that make orders, when they name one."""

_ADVERTISING_TYPES = {"ios": "idfa", "tvos": "idfa"}


def list_claims(
    wire: WireLine,
    context: WireContext,
    personal: Mapping[str, Any],
    properties: bytes,
    settings: Mapping[str, Any],
) -> list[Claim]:
    """Return the claims of an event.

    ``personal`` are the person's traits, ``settings`` those of the source.
    """
    claims: list[Claim] = []
    if wire.user_id is not None:
        claims.append(("user_id", wire.user_id))
    if wire.anonymous_id is not None:
        claims.append(("anonymous_id", wire.anonymous_id))
    # analytics-next, asked for an alias of somebody it knows, writes the stored user id twice.
    if wire.previous_id not in (None, wire.user_id) and wire.type == "alias":
        claims.append((settings.get("previous_id_type", "anonymous_id"), wire.previous_id))
    if personal:
        claims += [(name, personal[name]) for name in ("email", "phone") if name in personal]
    if context.external_ids:
        claims += [
            (one.type, one.id)
            for one in context.external_ids
            if one.type and one.id is not None and one.collection in (None, "users", "user")
        ]
    if context.device is not None:
        _list_device(context, claims)
    if wire.event in ORDER_EVENTS and wire.type == "track":
        _list_buyer(properties, claims)
    app = None if context.app is None or not context.external_ids else context.app.namespace
    if app is not None or "identifier_scope" in settings:
        return add_scopes(claims, settings, app)
    return claims


def _list_device(context: WireContext, claims: list[Claim]) -> None:
    device = context.device
    assert device is not None
    if device.id is not None:
        claims.append(("device_id", device.id))
    if device.advertising_id is not None:
        kind = _ADVERTISING_TYPES.get((device.type or "").lower(), "gaid")
        claims.append((kind, device.advertising_id))
    if device.token is not None:
        claims.append(("device_token", device.token))


def _list_buyer(properties: bytes, claims: list[Claim]) -> None:
    try:
        order = decode_order_contact(properties)
    except UNREADABLE:
        return
    if order.order_id is None:
        return
    for name in ("email", "phone", "member_card"):
        value = getattr(order, name)
        if value is not None:
            claims.append((name, value))


def add_scopes(
    claims: Sequence[Claim], settings: Mapping[str, Any], app: str | None = None
) -> list[Claim]:
    """Let each claim say whose numbering it is of; the rules decide which types that matters to.

    The setting ``identifier_scope`` is the name of the system that a source stands for, or one by
    type of identifier.
    """
    said = settings.get("identifier_scope")
    if said is None and app is None:
        return list(claims)
    scoped: list[Claim] = []
    for kind, value in claims:
        system = said.get(kind) if isinstance(said, dict) else said
        is_bare = system is None and app is None
        scoped.append((kind, value if is_bare else Scoped(value, app, system)))
    return scoped
