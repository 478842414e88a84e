"""One delivery of a shop, what it comes to, and small words that all shops share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from cdp.ingest.lenient import NotJson, decode_leniently, encode_sorted
from cdp.runtime.clock import parse_time

UNKNOWN_TOPIC = "unknown_topic"
ELEMENT = ":element"
"""Stands among the headers when a body is one element of a delivery: no header has such a name."""
_PROGRESS = {"pending": 0, "paid": 1, "completed": 2, "cancelled": 3, "returned": 4}


class Delivery(NamedTuple):
    """What came: header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes
    received_at: str
    """RFC 3339."""

    def header(self, name: str) -> str:
        """Return a header's value, ``""`` without it."""
        return self.headers.get(name, "").strip()


@dataclass(frozen=True, slots=True)
class HookRefusal:
    """Why a delivery, or an element of one, is not taken; it is kept with its bytes."""

    code: str
    message: str
    raw: bytes
    name: str | None = None
    index: int = 0
    """Its place among the elements of the delivery."""


@dataclass(slots=True)
class Mapped:
    """What a delivery comes to: documents of each kind, and what was refused."""

    events: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    privacy: list[dict[str, Any]] = field(default_factory=list)
    refused: list[HookRefusal] = field(default_factory=list)
    elements: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """By the identity of a document: the element that it was made from and its place, when the
    body has several."""

    def refuse(self, delivery: Delivery, code: str, message: str) -> Mapped:
        """Refuse the delivery as a whole."""
        self.refused.append(HookRefusal(code, message, delivery.body))
        return self


def read_object(body: bytes) -> dict[str, Any] | str:
    """Return the JSON object that a body is, or what is wrong with it."""
    try:
        value, _ = decode_leniently(body.removeprefix(b"\xef\xbb\xbf"))
    except NotJson as error:
        return f"the body is not JSON: {error}"
    except RecursionError:
        return "the body is nested too deeply"
    return value if isinstance(value, dict) else "the body is no JSON object"


def as_object(value: Any) -> Mapping[str, Any]:
    """Return ``value`` when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> Sequence[Any]:
    """Return ``value`` when it is a list, else an empty one."""
    return value if isinstance(value, list) else ()


def as_text(value: Any) -> str | None:
    """Return text or a whole number as text; ``None`` for nothing, blanks and all else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def without_nothing(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``document`` without what says nothing: a null would take a trait away."""
    return {k: v for k, v in document.items() if v is not None and v not in ("", [], {})}


def name_people(*claims: tuple[str, Any]) -> list[dict[str, str]]:
    """Return identifiers as posted records have them, without those that have no value."""
    return [{"type": kind, "value": text} for kind, value in claims if (text := as_text(value))]


def name_event(claims: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return where these identifiers stand on an event: the SDKs' ids, or ``externalIds``."""
    sdk = {"user_id": "userId", "anonymous_id": "anonymousId"}
    named: dict[str, Any] = {sdk[c["type"]]: c["value"] for c in claims if c["type"] in sdk}
    others = [
        {"id": c["value"], "type": c["type"], "collection": "users"}
        for c in claims
        if c["type"] not in sdk
    ]
    if others:
        named["context"] = {"externalIds": others}
    return named


def with_version(order: dict[str, Any]) -> dict[str, Any]:
    """Give an order an id for this very version of it, so that a copy is a duplicate.

    Shops' times have seconds, and several versions may share one. Of these the greater id counts,
    so it begins with how far the order has come.
    """
    progress = _PROGRESS.get(order.get("status", ""), 0)
    refunds = len(order.get("refunds", ()))
    order["messageId"] = f"{progress}-{refunds:03d}-{digest(order)}"
    return order


def digest(document: Any) -> str:
    """Return a name for this very content."""
    return blake2b(encode_sorted(document), digest_size=16).hexdigest()


def readable_time(time: Any, default: str | None = None) -> str | None:
    """Return a time as it was written when it can be read, else ``default``."""
    return time if isinstance(time, str) and parse_time(time) is not None else default
