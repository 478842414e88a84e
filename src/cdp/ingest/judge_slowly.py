"""The slow path of the verdict: events that strict reading refuses, or that must change. Pure."""

from __future__ import annotations

from typing import Any

from cdp.ingest.contacts import find_contact
from cdp.ingest.lenient import ODD_SHAPE, NotJson, TooDeep, add_flags, decode_leniently, encode
from cdp.ingest.open_body import Opened
from cdp.ingest.wire_event import LONGEST_ID, read_id
from cdp.model import EVENT_TYPES


class Refusal(Exception):
    """Carries a verdict out of the slow path."""

    def __init__(self, code: str, message: str, event: object = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.message_id = _read_message_id(event)


def judge_slowly(
    line: bytes, route_type: str | None, opened: Opened, max_event_bytes: int
) -> tuple[bytes, str]:
    """Return the log line and the primary identifier of one event; raises ``Refusal``."""
    if len(line) > max_event_bytes:
        raise _too_large(line, max_event_bytes, _read_heedlessly(line))
    try:
        event, flags = decode_leniently(line)
    except TooDeep as error:
        raise Refusal("too_deep", "the event is nested too deeply") from error
    except NotJson as error:
        raise Refusal("invalid_json", f"the event is not JSON: {error}") from error
    if not isinstance(event, dict):
        raise Refusal("not_an_object", "an event is a JSON object")
    changed = _set_type(event, route_type) | _share(event, opened, flags) | bool(flags)
    try:
        primary = _check_identifiers(event)
        add_flags(event, flags)
        if changed or b"\n" in line:
            line = encode(event)
    except RecursionError as error:
        raise Refusal("too_deep", "the event is nested too deeply", event) from error
    if opened.shared and len(line) > max_event_bytes:
        raise _too_large(line, max_event_bytes, event)
    return line, primary


def _too_large(line: bytes, max_event_bytes: int, event: object) -> Refusal:
    return Refusal(
        "event_too_large",
        f"the event has {len(line)} bytes; this source takes {max_event_bytes}",
        event,
    )


def _set_type(event: dict[str, Any], route_type: str | None) -> bool:
    """Settle the event's type; return whether it had to be written into the event."""
    written = event.get("type")
    if route_type is not None and written != route_type:
        event["type"] = route_type
        return True
    if written == "merge":
        # RudderStack's, read as an alias; the worker finds its identifiers in `mergeProperties`.
        event["type"] = "alias"
        return True
    if not isinstance(written, str) or written not in EVENT_TYPES:
        known = ", ".join(sorted(EVENT_TYPES))
        raise Refusal("unknown_type", f"`type` must be one of {known}", event)
    return False


def _share(event: dict[str, Any], opened: Opened, flags: set[str]) -> bool:
    """Merge what the batch says for all into the event, which has the last word."""
    for name, values in opened.shared.items():
        own = event.get(name)
        if own is None or isinstance(own, dict):
            event[name] = {**values, **(own or {})}
        elif name == "context":
            # No object, so it cannot be merged; it is kept where the worker would put it.
            event[name] = {**values, "cdp": {"odd": {"context": own}}}
            flags.add(ODD_SHAPE)
    flags |= opened.shared_flags
    return bool(opened.shared)


def _check_identifiers(event: dict[str, Any]) -> str:
    """Return the primary identifier; raises ``Refusal`` for a bad or missing one."""
    found: list[str] = []
    for name, code in (("userId", "invalid_user_id"), ("anonymousId", "invalid_anonymous_id")):
        value = event.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise Refusal(code, f"`{name}` must be text or a whole number", event)
        text = read_id(value)
        if text is not None:
            if len(text) > LONGEST_ID:
                raise Refusal(code, f"`{name}` is longer than {LONGEST_ID} characters", event)
            found.append(text)
    contact = found[0] if found else find_contact(event)
    if contact is None:
        raise Refusal(
            "no_identifier",
            "the event names nobody: give `userId`, `anonymousId`, an e-mail or phone trait,"
            " `context.externalIds` or `context.device.id`",
            event,
        )
    return contact


def _read_heedlessly(line: bytes) -> object:
    try:
        return decode_leniently(line)[0]
    except NotJson:
        return None


def _read_message_id(event: object) -> str | None:
    written = event.get("messageId") if isinstance(event, dict) else None
    if isinstance(written, bool) or not isinstance(written, str | int):
        return None
    return read_id(written)
