"""The fields that a pull of members may ask for: ``email,traits.city,tags.rfm.group``. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from cdp.errors import Unprocessable
from cdp.segments.paths import read_path

FieldKind = Literal["identifier", "trait", "tag"]

MOST_FIELDS = 50
FIXED_COLUMNS = ("profile_id", "entered_at")
_SEPARATOR = re.compile(r"(?<!\\),")


@dataclass(frozen=True, slots=True)
class MemberField:
    """One column beside ``profile_id`` and ``entered_at``."""

    column: str
    """What the caller called it, and what the column is called."""
    kind: FieldKind
    key: str
    """The identifier's type, the trait's name, or the tag's key."""
    path: tuple[str, ...] = ()
    """Into the value."""


def parse_fields(text: str | None, tag_keys: Collection[str]) -> list[MemberField]:
    r"""Read a comma-separated list: ``traits.…`` and ``tags.…`` are dotted paths, anything else

    is a type of identifier. ``\.`` is a dot within a name, ``\,`` a comma. Raises
    ``Unprocessable`` for an empty name, an unknown tag, too many fields or one given twice.
    """
    if not text:
        return []
    columns = [part.strip().replace("\\,", ",") for part in _SEPARATOR.split(text)]
    if len(columns) > MOST_FIELDS:
        raise _refuse("too_many_fields", f"ask for up to {MOST_FIELDS} fields")
    for index, column in enumerate(columns):
        if column in columns[:index]:
            raise _refuse("field_twice", f"{column!r} is asked for twice")
    return [_parse_field(column, tag_keys) for column in columns if column not in FIXED_COLUMNS]


def _parse_field(column: str, tag_keys: Collection[str]) -> MemberField:
    path = read_path(column)
    if not all(path):
        raise _refuse("bad_field", f"{column!r} is no field; write traits.city, tags.key or email")
    if len(path) == 1:
        return MemberField(column, "identifier", path[0])
    match path[0]:
        case "traits":
            return MemberField(column, "trait", path[1], path[2:])
        case "tags":
            return _parse_tag(column, path[1:], tag_keys)
    raise _refuse("bad_field", f"{column!r} is no field; paths begin with traits. or tags.")


def _parse_tag(column: str, path: tuple[str, ...], tag_keys: Collection[str]) -> MemberField:
    for length in range(len(path), 0, -1):
        key = ".".join(path[:length])
        if key in tag_keys:
            return MemberField(column, "tag", key, path[length:])
    raise _refuse("unknown_tag", f"there is no tag {'.'.join(path)!r}")


def _refuse(code: str, message: str) -> Unprocessable:
    return Unprocessable(code, message, path="/fields")
