"""Names and texts inside SQL that is made here. Pure."""

from __future__ import annotations


def quote_name(name: str) -> str:
    """Return ``name`` as an SQL identifier that means exactly it."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return ``text`` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def point_to(key: str) -> str:
    """Return the JSON Pointer (RFC 6901) of ``key`` in an object, as an SQL string.

    Unlike a path it has no wildcards, so any key can be meant.
    """
    return quote_text("/" + key.replace("~", "~0").replace("/", "~1"))
