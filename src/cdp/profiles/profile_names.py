"""How a person is named in a path: ``{type}:{value}``, percent-encoded. Pure."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from cdp.errors import NotFound
from cdp.model import Identifier
from cdp.profiles.profile_store import PROFILE_ID

Normalise = Callable[[str, str], str | None]
"""From type and value as asked to the normalised value; ``None`` when it can name nobody."""

ENCODED_SLASH = "\ufdd0"
"""Stands for a slash inside a path segment. Servers decode ``%2F`` before routing, which would

split the segment; a noncharacter, which Unicode keeps for inner use, cannot be sent by mistake.
"""

_PROFILE_ID_PREFIX = "prf_"


def keep_encoded_slashes(path: str, raw_path: bytes) -> str:
    """Return the decoded ``path`` with those slashes marked that were percent-encoded."""
    if b"%2f" not in raw_path.lower():
        return path
    parts = raw_path.replace(b"%2f", b"%2F").split(b"%2F")
    return ENCODED_SLASH.join(_decode_path(part) for part in parts)


def restore_slashes(name: str) -> str:
    """Return ``name`` from a path with the slashes that it had."""
    return name.replace(ENCODED_SLASH, "/")


def _decode_path(raw: bytes) -> str:
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def parse_profile_name(name: str, normalise: Normalise) -> Identifier:
    """Read ``email:ann@example.com`` or ``id:prf_…``, normalised as identifiers are.

    Raises ``NotFound`` for what can name nobody: without a type, blocked, or junk.
    """
    name = restore_slashes(name)
    kind, colon, value = name.partition(":")
    if not colon and name.startswith(_PROFILE_ID_PREFIX):
        return Identifier(PROFILE_ID, name)
    identifier = read_identifier(kind, value, normalise) if colon else None
    if identifier is None:
        raise profile_not_found("name a profile as type:value, such as email:ann@example.com")
    return identifier


def read_identifier(kind: str, value: str, normalise: Normalise) -> Identifier | None:
    """Return the identifier of this type and value, normalised; ``None`` when it names nobody."""
    if "\0" in kind or "\0" in value:
        return None
    if kind == PROFILE_ID:
        return Identifier(kind, value)
    normalised = normalise(kind, value)
    return None if normalised is None else Identifier(kind, normalised)


def profile_not_found(message: str = "no profile goes by this identifier") -> NotFound:
    """Return the error for a person nobody knows."""
    return NotFound("profile_not_found", message)
