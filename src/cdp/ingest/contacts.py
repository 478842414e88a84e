"""Find any identifier besides ``userId`` and ``anonymousId`` on an event. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdp.ingest.claims import ORDER_EVENTS
from cdp.ingest.lenient import encode
from cdp.ingest.wire_event import UNREADABLE, WireContacts, decode_contacts, read_id


def find_contact(event: dict[str, Any]) -> str | None:
    """Return any other identifier that the event carries."""
    try:
        found = decode_contacts(encode(event))
    except UNREADABLE:
        return _find_contact_in_pieces(event)
    return next(_list_contacts(found), None)


def _find_contact_in_pieces(event: dict[str, Any]) -> str | None:
    """Like ``find_contact``, when some part of the event has an odd shape: part by part."""
    context = event.get("context")
    context = context if isinstance(context, dict) else {}
    parts: list[dict[str, Any]] = [{"previousId": event.get("previousId")}]
    for traits in (event.get("traits"), context.get("traits")):
        if isinstance(traits, dict):
            parts += [{"traits": {name: traits.get(name)}} for name in ("email", "phone")]
    parts.append({"context": {"device": context.get("device")}})
    external = context.get("externalIds")
    if isinstance(external, list):
        parts += [{"context": {"externalIds": [one]}} for one in external]
    properties = event.get("properties")
    if isinstance(properties, dict):
        parts.append({"properties": properties, "event": event.get("event")})
    for part in parts:
        try:
            found = decode_contacts(encode({**part, "type": event["type"]}))
        except UNREADABLE:
            continue
        contact = next(_list_contacts(found), None)
        if contact is not None:
            return contact
    return None


def _list_contacts(found: WireContacts) -> Iterator[str]:
    context = found.context
    # A group call's traits are the account's.
    for traits in (found.traits if found.type != "group" else None, context and context.traits):
        if traits:
            yield from filter(None, (read_id(traits.email), read_id(traits.phone)))
    if context and context.external_ids:
        yield from (t for one in context.external_ids if one.type and (t := read_id(one.id)))
    if context and context.device:
        device = context.device
        told = (device.id, device.advertising_id, device.token)
        yield from filter(None, map(read_id, told))
    if found.type == "alias" and (previous := read_id(found.previous_id)):
        yield previous
    order = found.properties
    if order and order.order_id is not None and found.event in ORDER_EVENTS:
        for value in (order.email, order.phone, order.member_card):
            if isinstance(value, str | int) and (buyer := read_id(value)):
                yield buyer
