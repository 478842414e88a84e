"""Scopes, and the caller that holds them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ADMIN: Final = "admin"
PII_READ: Final = "pii:read"
SCOPES: tuple[str, ...] = (
    "profiles:read",
    "profiles:write",
    "segments:read",
    "segments:write",
    "tags:write",
    "sources:write",
    "identity:write",
    "privacy:write",
    "sql:read",
    PII_READ,
    "destinations:write",
    ADMIN,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token they showed and what it allows."""

    token_id: str
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """How the audit names them."""
        return f"token:{self.token_id}"

    @property
    def sees_personal(self) -> bool:
        """Whether personal values reach them unmasked."""
        return self.may(PII_READ)

    def may(self, scope: str) -> bool:
        """Whether they hold ``scope``; ``admin`` includes everything."""
        return scope in self.scopes or ADMIN in self.scopes

    def lacks(self, scopes: Iterable[str]) -> list[str]:
        """Return those of ``scopes`` that they do not hold, in order; ``a|b`` is either."""
        return [scope for scope in scopes if not any(map(self.may, scope.split("|")))]
