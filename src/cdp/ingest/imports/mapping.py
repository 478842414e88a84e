"""The mapping document: which column of a file becomes which field. Pure.

``{}`` stands for rows in wire format. Everything else is described in ``docs/imports.md``.
"""

from __future__ import annotations

from collections.abc import Mapping as Document
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, NoReturn, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cdp.errors import Unprocessable
from cdp.ingest.imports.targets import KINDS, Kind, check_target
from cdp.ingest.lenient import encode_sorted
from cdp.money import minor_digits

ValueType = Literal[
    "text", "number", "integer", "boolean", "time", "date", "money", "list", "json", "auto"
]
TYPES: frozenset[str] = frozenset(
    {"text", "number", "integer", "boolean", "time", "date", "money", "list", "json", "auto"}
)
FORMATS = ("csv", "ndjson", "parquet")
ENCODINGS = ("utf-8", "gb18030", "utf-16", "latin-1")
_SAME_ENCODING = {
    "utf8": "utf-8", "utf-8-sig": "utf-8", "gbk": "gb18030", "gb2312": "gb18030",
    "cp936": "gb18030", "utf16": "utf-16", "iso-8859-1": "latin-1",
}  # fmt: skip
_COLUMN_KEYS = frozenset(
    {"to", "type", "format", "timezone", "currency", "values", "separator", "true", "false"}
)
_KEYS = frozenset(
    {
        "columns", "constants", "unknown", "empty", "timezone", "currency", "preset", "group",
        "format", "encoding", "delimiter",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """What becomes of one column. ``to`` is a target such as ``traits.city``; ``None`` drops it."""

    to: str | None
    type: ValueType | None = None
    """``None`` leaves a value as the file has it."""
    formats: tuple[str, ...] = ()
    timezone: str | None = None
    currency: str | None = None
    values: Document[str, Any] = field(default_factory=dict)
    """Replacements by the column's text, such as ``{"已付款": "paid"}``."""
    separator: str = ","
    true: frozenset[str] = frozenset()
    false: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mapping:
    """A whole mapping, checked."""

    columns: Document[str, Column] = field(default_factory=dict)
    constants: Document[str, Any] = field(default_factory=dict)
    unknown: Literal["keep", "drop"] = "keep"
    empty: Literal["skip", "null"] = "skip"
    timezone: str | None = None
    currency: str | None = None
    preset: str | None = None
    group: bool = True
    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None

    @property
    def is_wire(self) -> bool:
        """Whether rows are in wire format: nothing is mapped, at most reading is described."""
        return not (self.columns or self.constants or self.preset)


def digest_mapping(document: Any) -> str:
    """Return 32 hexadecimal digits that tell this mapping from others."""
    return blake2b(encode_sorted(document), digest_size=16).hexdigest()


def check_kind(kind: str | None) -> Kind:
    """Return ``kind``; raises ``Unprocessable`` for none of events, profiles, orders, accounts."""
    if kind not in KINDS:
        _refuse("invalid_kind", f"`kind` is one of {', '.join(KINDS)}", "/kind")
    return kind


def read_mapping(document: Any, kind: Kind) -> Mapping:
    """Check a mapping document; raises ``Unprocessable`` with ``details.path``."""
    if not isinstance(document, Document):
        _refuse("invalid_mapping", "a mapping is a JSON object; {} for wire-format rows", "")
    if _is_columns(document):
        named, document, at = document, {}, ""
    else:
        _check_keys(document, _KEYS, "")
        named = _take(document, "columns", Document, {}, "an object of column → target")
        at = "/columns"
    constants = _take(document, "constants", Document, {}, "an object of target → value")
    for target, value in constants.items():
        at = f"/constants/{_escape(target)}"
        _check_target(kind, target, at)
        if isinstance(value, Document | list):
            _refuse("invalid_mapping", "a constant is text, a number, true, false or null", at)
    delimiter = _take(document, "delimiter", str, None, "one character")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        _refuse("invalid_mapping", "a delimiter is one character", "/delimiter")
    return Mapping(
        columns={
            str(name).strip(): _read_column(kind, said, f"{at}/{_escape(name)}")
            for name, said in named.items()
        },
        constants=dict(constants),
        unknown=_choose(document, "unknown", ("keep", "drop"), "keep"),
        empty=_choose(document, "empty", ("skip", "null"), "skip"),
        timezone=_read_zone(document, ""),
        currency=_read_currency(document, ""),
        preset=_take(document, "preset", str, None, "a preset's name"),
        group=_take(document, "group", bool, True, "true or false"),
        format=_choose(document, "format", FORMATS, None),
        encoding=_read_encoding(document),
        delimiter=delimiter,
    )


def _is_columns(document: Document[str, Any]) -> bool:
    """Return whether a mapping is its columns alone, such as ``{"mail": "identifiers.email"}``."""
    return (
        bool(document)
        and _KEYS.isdisjoint(document)
        and all(
            said is None or isinstance(said, str) or (isinstance(said, Document) and "to" in said)
            for said in document.values()
        )
    )


def _read_column(kind: Kind, said: Any, at: str) -> Column:
    if said is None:
        return Column(None)
    if isinstance(said, str):
        _check_target(kind, said, at)
        return Column(said)
    if not isinstance(said, Document):
        _refuse("invalid_mapping", "a column maps to a target, an object, or null to drop it", at)
    _check_keys(said, _COLUMN_KEYS, at)
    target = _take(said, "to", str, None, "a target such as traits.city", at)
    if target is None:
        _refuse("invalid_mapping", "`to` says which field the column becomes", f"{at}/to")
    _check_target(kind, target, f"{at}/to")
    return Column(
        to=target,
        type=_choose(said, "type", tuple(sorted(TYPES)), None, at),
        formats=_read_texts(said, "format", at),
        timezone=_read_zone(said, at),
        currency=_read_currency(said, at),
        values={str(k): v for k, v in _take(said, "values", Document, {}, "an object", at).items()},
        separator=_take(said, "separator", str, ",", "text", at) or ",",
        true=frozenset(text.casefold() for text in _read_texts(said, "true", at)),
        false=frozenset(text.casefold() for text in _read_texts(said, "false", at)),
    )


def _check_target(kind: Kind, target: Any, at: str) -> None:
    mistake = check_target(kind, str(target))
    if mistake is not None:
        _refuse("invalid_target", mistake, at)


def _check_keys(document: Document[str, Any], known: frozenset[str], at: str) -> None:
    for key in document:
        if key not in known:
            wanted = ", ".join(sorted(known))
            _refuse("unknown_key", f"{key!r} is none of {wanted}", f"{at}/{_escape(key)}")


def _take(
    document: Document[str, Any], key: str, form: Any, default: Any, what: str, at: str = ""
) -> Any:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, form):
        _refuse("invalid_mapping", f"`{key}` is {what}", f"{at}/{key}")
    return value


def _choose(
    document: Document[str, Any], key: str, known: tuple[str, ...], default: Any, at: str = ""
) -> Any:
    value = document.get(key)
    if value is None:
        return default
    if value not in known:
        _refuse("invalid_mapping", f"`{key}` is one of {', '.join(known)}", f"{at}/{key}")
    return value


def _read_texts(document: Document[str, Any], key: str, at: str) -> tuple[str, ...]:
    value = document.get(key)
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text for text in texts):
        _refuse("invalid_mapping", f"`{key}` is text or a list of texts", f"{at}/{key}")
    return tuple(texts)


def _read_zone(document: Document[str, Any], at: str) -> str | None:
    zone = _take(document, "timezone", str, None, "an IANA time zone", at)
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            _refuse("invalid_timezone", f"{zone!r} is not an IANA time zone", f"{at}/timezone")
    return cast("str | None", zone)


def _read_currency(document: Document[str, Any], at: str) -> str | None:
    currency = _take(document, "currency", str, None, "an ISO 4217 currency", at)
    if currency is None:
        return None
    if minor_digits(currency.upper()) is None:
        _refuse("unknown_currency", f"{currency!r} is no ISO 4217 currency", f"{at}/currency")
    return cast(str, currency.upper())


def _read_encoding(document: Document[str, Any]) -> str | None:
    said = _take(document, "encoding", str, None, "an encoding")
    if said is None:
        return None
    name = _SAME_ENCODING.get(said.lower(), said.lower())
    if name not in ENCODINGS:
        _refuse("invalid_mapping", f"`encoding` is one of {', '.join(ENCODINGS)}", "/encoding")
    return cast(str, name)


def _escape(step: Any) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


def _refuse(code: str, message: str, at: str) -> NoReturn:
    path = at if at == "/kind" else f"/mapping{at}"
    raise Unprocessable(code, message, path=path)
