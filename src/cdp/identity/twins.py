"""Two spellings of one identifier: a contact and its SHA-256. Pure."""

from __future__ import annotations

from hashlib import sha256

from cdp.identity.default_types import HASHED_TYPES

_HASHED_OF = {clear: hashed for hashed, clear in HASHED_TYPES.items()}


def digest(value: str) -> str:
    """Return the SHA-256 of a normalised value, in lower-case hexadecimal."""
    return sha256(value.encode()).hexdigest()


def hashed_type_of(type_name: str) -> str | None:
    """Return the type of the hashed form of a clear type; ``None`` for types without one."""
    return _HASHED_OF.get(type_name)
