"""From a row of a file to the line that is judged and logged. Pure.

A line in wire format is used as it is: what it lacks (a message id, a type) is written at its end
without decoding the rest, where it also outranks a null of the same name. Message ids come from
the file's digest and the row's number, so an import that runs twice is a set of duplicates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from cdp.ingest.imports.map_row import Mapper, ObjectMapper, RowRefused, place_identifiers
from cdp.ingest.imports.targets import FIELDS, OBJECTS, ROW_ID, Kind
from cdp.ingest.lenient import NotJson, decode_leniently
from cdp.ingest.wire_event import UNREADABLE

_DIGEST_DIGITS = 24

encode = msgspec.json.Encoder(decimal_format="number").encode

Prepare = Callable[[Any, int], bytes]
"""From a row and its number to its line; raises ``RowRefused``."""


class Origin(NamedTuple):
    """Where rows come from, as far as it shows in their lines."""

    digest: str
    """SHA-256 of the file, hexadecimal."""
    mapping_digest: str
    said_at: str
    """RFC 3339: what orders speak of that name no time of their own."""

    def name_row(self, number: int, kind: Kind) -> str:
        """Return the message id of a row.

        A corrected mapping says something else of a person, so profiles are told apart by it. An
        event happened once, however it is mapped.
        """
        told_apart = f"-{self.mapping_digest[:8]}" if kind == "profiles" else ""
        return f"import-{self.digest[:_DIGEST_DIGITS]}{told_apart}-{number}"


class _Head(msgspec.Struct, gc=False, rename="camel"):
    type: Any = None
    event: Any = None
    message_id: Any = None


class _OrderHead(msgspec.Struct, gc=False):
    updated_at: Any = None
    placed_at: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_order_head = msgspec.json.Decoder(_OrderHead).decode
_decode_any = msgspec.json.Decoder().decode
_WIRE_PROFILE = FIELDS["profiles"] | OBJECTS["profiles"] | {"type"}


# ── Rows of a table: CSV, Parquet ───────────────────────────────────────────────────────────────


def map_cells(mapper: Mapper, kind: Kind, origin: Origin) -> Callable[[Any, int], dict[str, Any]]:
    """Return how cells and their row's number become a document; raises ``RowRefused``."""
    finish = _FINISH[kind]

    def prepare(cells: Any, number: int) -> dict[str, Any]:
        document = mapper.map(cells)
        finish(document, number, origin)
        return document

    return prepare


def map_objects(
    mapper: ObjectMapper, kind: Kind, origin: Origin
) -> Callable[[Any, int], dict[str, Any]]:
    """Return how a line of JSON and its number become a document; raises ``RowRefused``."""
    finish = _FINISH[kind]

    def prepare(line: bytes, number: int) -> dict[str, Any]:
        found = _read_leniently(line)
        if found is None:
            raise RowRefused("invalid_json", "the line is no JSON object")
        document = mapper.map(found)
        finish(document, number, origin)
        return document

    return prepare


def encode_document(document: dict[str, Any]) -> bytes:
    """Return a document as a line; raises ``RowRefused`` for text that is not UTF-8."""
    try:
        return encode(document)
    except UnicodeEncodeError as error:
        message = "the row is not in the file's encoding; say `encoding` in the mapping"
        raise RowRefused("not_utf8", message) from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RowRefused("invalid_value", "a value of the row has no form in JSON") from error


def _finish_event(document: dict[str, Any], number: int, origin: Origin) -> None:
    if not document.get("type"):
        document["type"] = "track"
    if not document.get("messageId"):
        document["messageId"] = origin.name_row(number, "events")


def _finish_profile(document: dict[str, Any], number: int, origin: Origin) -> None:
    if document.get("type") not in (None, "", "identify"):
        raise RowRefused("wrong_type", "a profile is an identify call; import events as events")
    named = document.pop("identifiers", None)
    if named is not None:
        place_identifiers(document, named, "profiles")
    document["type"] = "identify"
    if not document.get("messageId"):
        document["messageId"] = origin.name_row(number, "profiles")


def _finish_order(document: dict[str, Any], _: int, origin: Origin) -> None:
    if document.get("updated_at") is None:
        document["updated_at"] = document.get("placed_at") or origin.said_at


def _finish_account(document: dict[str, Any], _: int, origin: Origin) -> None:
    if document.get("updated_at") is None:
        document["updated_at"] = origin.said_at


_FINISH: dict[Kind, Callable[[dict[str, Any], int, Origin], None]] = {
    "events": _finish_event,
    "profiles": _finish_profile,
    "orders": _finish_order,
    "accounts": _finish_account,
}


# ── Lines in wire format ────────────────────────────────────────────────────────────────────────


def prepare_wire(kind: Kind, origin: Origin) -> Prepare:
    """Return how a line in wire format becomes the line to log; raises ``RowRefused``."""
    if kind == "events":
        return _prepare_events(origin)
    if kind == "profiles":
        return _prepare_profiles(origin)
    return _prepare_records(kind, origin)


def _prepare_events(origin: Origin) -> Prepare:
    def prepare(line: bytes, number: int) -> bytes:
        try:
            head = _decode_head(line)
        except UNREADABLE:
            found = _read_leniently(line)
            if found is None:
                # The door says what is wrong with it.
                return line
            head = _Head(found.get("type"), found.get("event"), found.get("messageId"))
        more: dict[str, str] = {}
        if head.type is None or head.type == "":
            more["type"] = "track"
        if head.message_id is None or head.message_id == "":
            more["messageId"] = origin.name_row(number, "events")
        return _append(line, more) if more else line

    return prepare


def _prepare_profiles(origin: Origin) -> Prepare:
    def prepare(line: bytes, number: int) -> bytes:
        found = _read_leniently(line)
        if found is None:
            raise RowRefused("invalid_json", "the line is no JSON object")
        document = {name: value for name, value in found.items() if name in _WIRE_PROFILE}
        beside = {name: value for name, value in found.items() if name not in _WIRE_PROFILE}
        if beside:
            traits = document.get("traits")
            document["traits"] = {**beside, **(traits if isinstance(traits, dict) else {})}
        _finish_profile(document, number, origin)
        return encode_document(document)

    return prepare


def _prepare_records(kind: Kind, origin: Origin) -> Prepare:
    def prepare(line: bytes, number: int) -> bytes:
        try:
            head = _decode_order_head(line)
        except UNREADABLE:
            found = _read_leniently(line)
            if found is None:
                return line
            head = _OrderHead(found.get("updated_at"), found.get("placed_at"))
        if head.updated_at is not None:
            return line
        placed = head.placed_at if kind == "orders" else None
        return _append(line, {"updated_at": placed or origin.said_at})

    return prepare


def _read_leniently(line: bytes) -> dict[str, Any] | None:
    try:
        found = _decode_any(line)
    except UNREADABLE:
        try:
            found, _ = decode_leniently(line)
        except NotJson:
            return None
    return found if isinstance(found, dict) else None


def _append(line: bytes, more: dict[str, Any]) -> bytes:
    """Write ``more`` at the end of an object, where it outranks what stands before."""
    line = line.rstrip()
    is_empty = line[1:-1].isspace() or len(line) == 2
    return line[:-1] + (b"" if is_empty else b",") + encode(more)[1:]


# ── Several rows of one order or account ────────────────────────────────────────────────────────


def id_field(kind: Kind) -> str | None:
    """Return the field by which rows of one order or account are recognised, if there is one."""
    return ROW_ID[kind]


def join_rows(first: dict[str, Any], more: dict[str, Any], kind: Kind) -> None:
    """Add the row ``more`` to the document of the rows before it, which have the same id.

    Every row adds its line, refund or member; of other fields the first that says something
    counts, and of traits every one.
    """
    for name, value in more.items():
        if value is None:
            continue
        own = first.get(name)
        if own is None:
            first[name] = value
        elif isinstance(own, list) and isinstance(value, list):
            own += [one for one in value if name in ("lines",) or one not in own]
        elif name == "traits" and kind == "accounts" and isinstance(own, dict):
            first[name] = {**value, **own}
