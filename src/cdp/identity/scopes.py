"""Whose numbering an identifier is of: two CRMs both have a customer 1001. Pure.

A type whose rule has a ``scope`` takes the scope into its value, ``eu::1001``, so that it stands
in look-ups, exports and SQL as what it is. Without a scope a value stays as it was sent.
"""

from __future__ import annotations

import re

from cdp.identity.rules import Scope
from cdp.model import Scoped

SEPARATOR = "::"
_WECHAT_APP = re.compile(r"^wx[0-9A-Za-z_-]{1,40}$")


def find_scope(type_name: str, scope: Scope, said: Scoped) -> str | None:
    """Return the scope of a value: what the source's settings say, else for ``app`` the app.

    An openid is WeChat's, of a WeChat app (``wx`` and digits): the bundle of an iPhone app says
    nothing of it, and the Android build of the same app has another.
    """
    if said.system or scope == "system":
        return said.system
    if said.app and type_name.startswith("wechat_") and not _WECHAT_APP.match(said.app):
        return None
    return said.app


def add_scope(value: str, scope: str | None) -> str:
    """Return ``scope::value``; as it is when it has no scope, or says it already."""
    prefix = f"{scope}{SEPARATOR}"
    return value if scope is None or value.startswith(prefix) else prefix + value


def split_scope(value: str) -> tuple[str | None, str]:
    """Return the scope, ``None`` without one, and the bare value."""
    scope, separator, bare = value.partition(SEPARATOR)
    return (scope, bare) if separator and scope and bare else (None, value)
