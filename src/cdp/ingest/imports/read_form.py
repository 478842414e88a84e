"""What the form of an upload asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from cdp.errors import Unprocessable
from cdp.ingest.imports.mapping import Mapping as RowMapping
from cdp.ingest.imports.mapping import check_kind, read_mapping
from cdp.ingest.imports.presets import PRESETS, check_preset
from cdp.ingest.imports.targets import Kind

_FIELDS = frozenset(
    {"kind", "mapping", "source", "preset", "dry_run", "digest", "again", "partial"}
)
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


@dataclass(frozen=True, slots=True)
class Order:
    """What the fields of the form ask for, checked."""

    kind: Kind
    document: Mapping[str, Any]
    mapping: RowMapping
    source_id: str | None
    is_dry_run: bool
    again: bool
    digest: str | None
    """Of the file as the caller knows it."""
    is_partial: bool
    """Whether only the beginning of the file was sent, for a dry run."""


def read_form(fields: Mapping[str, str]) -> Order:
    """Check the fields of the form; raises ``Unprocessable`` with ``details.path``."""
    for name in fields:
        if name not in _FIELDS:
            wanted = ", ".join(sorted(_FIELDS))
            refuse("unknown_field", f"{name[:50]!r} is no field: {wanted}", f"/{name[:50]}")
    document = _read_document(fields.get("mapping", ""))
    if fields.get("preset"):
        document["preset"] = fields["preset"]
    preset = document.get("preset")
    implied = PRESETS.get(preset) if isinstance(preset, str) else None
    kind = check_kind(fields.get("kind") or implied)
    mapping = read_mapping(document, kind)
    if mapping.preset is not None:
        check_preset(mapping.preset, kind)
    return Order(
        kind,
        document,
        mapping,
        fields.get("source") or None,
        _read_word(fields, "dry_run"),
        _read_word(fields, "again"),
        (fields.get("digest") or "").removeprefix("sha256:").lower() or None,
        _read_word(fields, "partial"),
    )


def _read_document(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        refuse("invalid_json", f"`mapping` is not JSON: {error}", "/mapping")
    if not isinstance(document, dict):
        refuse("invalid_mapping", "a mapping is a JSON object; {} for wire-format rows", "/mapping")
    return document


def _read_word(fields: Mapping[str, str], name: str) -> bool:
    word = fields.get(name, "").strip().lower()
    if word not in _WORDS:
        refuse("invalid_field", f"`{name}` is true or false", f"/{name}")
    return _WORDS[word]


def refuse(code: str, message: str, path: str) -> NoReturn:
    """Raise ``Unprocessable`` for what is wrong at ``path``."""
    raise Unprocessable(code, message, path=path)
