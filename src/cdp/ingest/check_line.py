"""Carry out on an event's bytes what the tracking plan says of it. Pure.

Only what must change is written anew: members that stay are the bytes that were sent, so no number
loses a digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from cdp.ingest.judge_slowly import Refusal
from cdp.ingest.lenient import NotJson, add_flags, decode_leniently, encode, needs_cleaning
from cdp.ingest.wire_event import UNREADABLE, decode_object
from cdp.model import EventCheck, Verdict

_Parts = dict[str, Raw]
_Wanted = dict[str | int, "_Wanted"]
"""What is to go, as a tree of steps; a leaf is empty."""

_decode_parts = msgspec.json.Decoder(_Parts).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def check_line(line: bytes, check: EventCheck) -> bytes:
    """Return ``line``, an event that was judged already, as ``check`` leaves it.

    Raises ``Refusal`` when the check refuses the event.
    """
    try:
        event = None if needs_cleaning(line) else decode_object(line)
    except UNREADABLE:
        event = None
    if event is None:
        line = _clean(line)
        event = decode_object(line)
    verdict = check(event)
    if verdict is None:
        return line
    if verdict.code is not None:
        raise Refusal(verdict.code, verdict.message, event)
    return _rewrite(line, verdict)


def _clean(line: bytes) -> bytes:
    """Return the event without what strict readers refuse, flagged, as the worker would read it."""
    try:
        event, flags = decode_leniently(line)
        if not isinstance(event, dict):
            raise Refusal("not_an_object", "an event is a JSON object")
        add_flags(event, flags)
        return encode(event)
    except RecursionError as error:
        raise Refusal("too_deep", "the event is nested too deeply") from error
    except NotJson as error:
        raise Refusal("invalid_json", f"the event is not JSON: {error}") from error


def _rewrite(line: bytes, verdict: Verdict) -> bytes:
    if verdict.removed:
        line = _remove(line, _plant(verdict.removed))
    event = _decode_parts(line)
    context = _open(event.get("context"))
    mark = {"context": {"cdp": decode_object(context["cdp"])} if _holds(context, "cdp") else {}}
    add_flags(mark, set(verdict.flags))
    cdp = mark["context"].setdefault("cdp", {})
    if verdict.mark is not None:
        cdp["plan"] = verdict.mark
    context["cdp"] = Raw(encode(cdp))
    event["context"] = Raw(encode(context))
    return encode(event)


def _open(raw: Raw | None) -> _Parts:
    return _decode_parts(raw) if raw is not None and bytes(raw).startswith(b"{") else {}


def _holds(parts: _Parts, name: str) -> bool:
    return name in parts and bytes(parts[name]).startswith(b"{")


def _plant(paths: Iterable[tuple[str | int, ...]]) -> _Wanted:
    tree: _Wanted = {}
    for path in paths:
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return tree


def _remove(data: bytes | Raw, wanted: _Wanted) -> bytes:
    """Return ``data`` without what ``wanted`` leads to; what is not there is no matter."""
    raw = bytes(data)
    parts: Any
    if raw.startswith(b"{"):
        parts = _decode_parts(raw)
        found = [step for step in wanted if step in parts]
    elif raw.startswith(b"["):
        parts = _decode_list(raw)
        found = [step for step in wanted if isinstance(step, int) and step < len(parts)]
        found.sort(reverse=True)
    else:
        return raw
    for step in found:
        if wanted[step]:
            parts[step] = Raw(_remove(parts[step], wanted[step]))
        else:
            del parts[step]
    return encode(parts)
