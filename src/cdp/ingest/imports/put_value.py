"""Where a value goes in the document of a row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cdp.ingest.imports.targets import OBJECTS, PREFIXES, Kind

Put = Callable[[dict[str, Any], Any], None]

_CONTACTS = ("email", "phone")


def make_put(target: str, kind: Kind) -> Put:
    """Return what puts a value at ``target`` of a document of ``kind``."""
    head, _, rest = target.partition(".")
    if head == "identifiers" and rest:
        return make_put_identifier(rest, kind)
    if head == "consent" and rest:
        return _put_at(["context", "consent", "categoryPreferences", rest])
    if head in ("lines", "refunds", "members") and rest:
        return _put_part(head, rest)
    if target in OBJECTS[kind] and kind in ("events", "profiles") and target != "identifiers":
        return _merge_at(target)
    if head in PREFIXES[kind]:
        return _put_at(target.split("."))
    return _put_field(target)


def _put_field(name: str) -> Put:
    def put(document: dict[str, Any], value: Any) -> None:
        document[name] = value

    return put


def _merge_at(name: str) -> Put:
    def put(document: dict[str, Any], value: Any) -> None:
        own = document.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            document[name] = {**value, **own}
        else:
            document[name] = value

    return put


def _put_at(path: Sequence[str]) -> Put:
    *parents, last = path
    if len(parents) == 1:
        first = parents[0]

        def put_shallow(document: dict[str, Any], value: Any) -> None:
            inner = document.get(first)
            if type(inner) is dict:
                inner[last] = value
            else:
                document[first] = {last: value}

        return put_shallow

    def put(document: dict[str, Any], value: Any) -> None:
        for name in parents:
            inner = document.get(name)
            if type(inner) is not dict:
                inner = document[name] = {}
            document = inner
        document[last] = value

    return put


def _put_part(head: str, rest: str) -> Put:
    if head == "members" and rest.startswith("identifiers."):
        kind = rest.partition(".")[2]

        def put_member(document: dict[str, Any], value: Any) -> None:
            if value is not None:
                part = document.setdefault(head, [{}])[0]
                part.setdefault("identifier", {"type": kind, "value": value})

        return put_member

    def put(document: dict[str, Any], value: Any) -> None:
        if value is not None:
            document.setdefault(head, [{}])[0][rest] = value

    return put


def make_put_identifier(kind: str, row_kind: Kind) -> Put:
    """Return what puts an identifier of the type ``kind`` where the wire has it."""
    if row_kind == "orders":
        return _add_named("identifiers", kind)
    if kind == "user_id":
        return _skip_none(_put_field("userId"))
    if kind == "anonymous_id":
        return _skip_none(_put_field("anonymousId"))
    if kind in _CONTACTS:
        # Traits of an identify call are the person's; of others only those of the context.
        home = ["traits"] if row_kind == "profiles" else ["context", "traits"]
        return _skip_none(_put_at([*home, kind]))
    if kind == "device_id":
        return _skip_none(_put_at(["context", "device", "id"]))
    return _add_external(kind)


def _skip_none(put: Put) -> Put:
    def put_known(document: dict[str, Any], value: Any) -> None:
        if value is not None:
            put(document, value)

    return put_known


def _add_named(name: str, kind: str) -> Put:
    def put(document: dict[str, Any], value: Any) -> None:
        if value is not None:
            document.setdefault(name, []).append({"type": kind, "value": value})

    return put


def _add_external(kind: str) -> Put:
    def put(document: dict[str, Any], value: Any) -> None:
        if value is not None:
            context = document.setdefault("context", {})
            context.setdefault("externalIds", []).append(
                {"id": value, "type": kind, "collection": "users", "encoding": "none"}
            )

    return put


def with_currency(put: Put, currency: str) -> Put:
    """Say the currency of an amount beside it, where the wire has it, unless the row says one."""

    def put_both(document: dict[str, Any], value: Any) -> None:
        put(document, value)
        document["properties"].setdefault("currency", currency)

    return put_both
