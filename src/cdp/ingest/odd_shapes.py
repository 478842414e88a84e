"""Bring an event whose members have unexpected types into the expected shape. Pure.

Nothing is thrown away: what does not fit is kept, as it was, under ``context.cdp.odd`` by its name,
and the event is flagged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cdp.ingest.lenient import ODD_SHAPE, add_flags, decode_leniently, encode
from cdp.ingest.wire_event import LONGEST_ID


def straighten(data: bytes) -> bytes:
    """Return the event of ``data`` in the shape that ``WireLine`` and ``WireContext`` decode.

    Raises ``NotJson``, or ``ValueError`` when it is no object.
    """
    event, flags = decode_leniently(data)
    if not isinstance(event, dict):
        raise ValueError("an event is a JSON object")
    odd: dict[str, Any] = {}
    for name, fits in _EVENT.items():
        _fit(event, name, fits, name, odd)
    context = event.get("context")
    if isinstance(context, dict):
        for name, fits in _CONTEXT.items():
            _fit(context, name, fits, f"context.{name}", odd)
        _sift_external_ids(context, odd)
        for outer, members in _INNER.items():
            inner = context.get(outer)
            if isinstance(inner, dict):
                for name, fits in members.items():
                    _fit(inner, name, fits, f"context.{outer}.{name}", odd)
    if odd:
        flags.add(ODD_SHAPE)
    add_flags(event, flags)
    if odd:
        event["context"]["cdp"]["odd"] = odd
    return encode(event)


def _fit(
    within: dict[str, Any], name: str, fits: Callable[[Any], bool], path: str, odd: dict[str, Any]
) -> None:
    """Move a member that does not fit out of the way; numbers and booleans as text stay."""
    value = within.get(name)
    if value is None or fits(value):
        return
    odd[path] = within.pop(name)
    if fits is _is_text and isinstance(value, int | float):
        within[name] = encode(value).decode()


def _sift_external_ids(context: dict[str, Any], odd: dict[str, Any]) -> None:
    """Move the external ids that do not fit out of the way; the others still name the person."""
    found = context.get("externalIds")
    if not isinstance(found, list):
        return
    context["externalIds"] = [one for one in found if _is_external_id(one)]
    for index, one in enumerate(found):
        if not _is_external_id(one):
            odd[f"context.externalIds[{index}]"] = one


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool)


def _is_message_id(value: Any) -> bool:
    return isinstance(value, str) or _is_id(value)


def _is_time(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_id_list(value: Any) -> bool:
    return isinstance(value, list | dict)


def _is_external_id(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and (one.get("id") is None or _is_id(one["id"]))
        and all(
            one.get(name) is None or _is_text(one[name])
            for name in ("type", "collection", "encoding")
        )
    )


_EVENT: dict[str, Callable[[Any], bool]] = {
    "event": _is_text,
    "name": _is_text,
    "category": _is_text,
    "userId": _is_id,
    "anonymousId": _is_id,
    "previousId": _is_id,
    "groupId": _is_id,
    "messageId": _is_message_id,
    "timestamp": _is_time,
    "originalTimestamp": _is_time,
    "sentAt": _is_time,
    "properties": _is_object,
    "traits": _is_object,
    "context": _is_object,
}
_CONTEXT: dict[str, Callable[[Any], bool]] = {
    "traits": _is_object,
    "externalIds": _is_list,
    "device": _is_object,
    "app": _is_object,
    "consent": _is_object,
    "consentManagement": _is_object,
    "cdp": _is_object,
}
_INNER: dict[str, dict[str, Callable[[Any], bool]]] = {
    "device": {"id": _is_id, "type": _is_text, "advertisingId": _is_id, "token": _is_id},
    "app": {"namespace": _is_text},
    "consent": {"categoryPreferences": _is_object},
    "consentManagement": {"allowedConsentIds": _is_id_list, "deniedConsentIds": _is_list},
}
