"""What any other system sends, by the mapping of the source. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdp.ingest.hooks.delivery import (
    ELEMENT,
    UNKNOWN_TOPIC,
    Delivery,
    HookRefusal,
    Mapped,
    digest,
    name_event,
    name_people,
)
from cdp.ingest.hooks.expressions import Budget, ExpressionError
from cdp.ingest.hooks.mapping import (
    HookMapping,
    fill_fields,
    find_elements,
    find_kind,
    read_mapping,
)
from cdp.ingest.lenient import NotJson, decode_leniently, encode


def map_delivery(delivery: Delivery, settings: Mapping[str, Any]) -> Mapped:
    """Return what a delivery comes to. An element that cannot be mapped refuses only itself."""
    mapped = Mapped()
    mapping = read_mapping(settings.get("mapping"))
    if isinstance(mapping, tuple):
        return mapped.refuse(delivery, "mapping_failed", "the source has no mapping that holds")
    try:
        body, _ = decode_leniently(delivery.body.removeprefix(b"\xef\xbb\xbf"))
    except NotJson as error:
        return mapped.refuse(delivery, "invalid_json", f"the body is not JSON: {error}")
    except RecursionError:
        return mapped.refuse(delivery, "invalid_json", "the body is nested too deeply")
    budget = Budget()
    try:
        elements = [body] if ELEMENT in delivery.headers else find_elements(mapping, body, budget)
    except ExpressionError as error:
        return mapped.refuse(delivery, "mapping_failed", f"each: {error}")
    if not elements:
        return mapped.refuse(delivery, UNKNOWN_TOPIC, "the mapping finds no element in it")
    for index, element in enumerate(elements):
        _map_element(mapped, mapping, element, index, budget)
    return mapped


def _map_element(
    mapped: Mapped, mapping: HookMapping, element: Any, index: int, budget: Budget
) -> None:
    try:
        kind = find_kind(mapping, element, budget)
        filled = {} if kind is None else fill_fields(mapping, element, budget)
    except ExpressionError as error:
        mapped.refused.append(
            HookRefusal("mapping_failed", str(error), encode(element), index=index)
        )
        return
    if kind is None:
        message = "the mapping gives it no kind"
        mapped.refused.append(HookRefusal(UNKNOWN_TOPIC, message, encode(element), index=index))
    else:
        if kind == "orders":
            document = _write_order(filled, element)
            mapped.orders.append(document)
        else:
            document = _write_event(filled, element, kind)
            mapped.events.append(document)
        mapped.elements[id(document)] = (encode(element), index)


def _write_order(filled: dict[str, Any], element: Any) -> dict[str, Any]:
    order = dict(filled)
    named = order.get("identifiers")
    if isinstance(named, dict):
        order["identifiers"] = [
            {"type": kind, "value": value} for kind, value in named.items() if value != ""
        ]
    if order.get("updated_at") is None:
        # Whatever has no time is told from a copy by its content alone.
        order.setdefault("messageId", digest(element))
    return order


def _write_event(filled: dict[str, Any], element: Any, kind: str) -> dict[str, Any]:
    event = dict(filled)
    named, consent = event.pop("identifiers", None), event.pop("consent", None)
    if kind == "profiles":
        event["type"] = "identify"
    event.setdefault("type", "track")
    if isinstance(named, dict):
        said = name_event(name_people(*named.items()))
        context = {**_as_dict(event.get("context")), **said.pop("context", {})}
        event |= said
        if context:
            event["context"] = context
    if isinstance(consent, dict):
        event["context"] = _as_dict(event.get("context")) | {
            "consent": {"categoryPreferences": consent}
        }
    event.setdefault("messageId", f"hook-{digest([kind, element])}")
    return event


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
